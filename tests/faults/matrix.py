"""The fault matrix: which tests inject each fault.

A name is `file::test`, from `tests/`.
"""

ROWS: dict[int, tuple[str, str, tuple[str, ...]]] = {
    # row: (the fault, what is required, the tests)
    1: ("kill -9 in mid-epoch", "the resumed run is the uninterrupted one, bit for bit", (
        "faults/test_kills.py::test_a_killed_run_ends_as_the_uninterrupted_one",
        "faults/test_kills.py::test_a_killed_run_goes_on_by_the_path_of_its_checkpoint",
        "faults/test_true_command.py::test_a_run_that_a_signal_ended_goes_on_bit_for_bit",
    )),
    2: ("two kills in one epoch", "the same", ("faults/test_kills.py::test_two_kills_in_one_epoch",)),
    3: ("kill -9 in a save", "a checkpoint loads", (
        "faults/test_kills.py::test_a_kill_in_a_save_leaves_a_checkpoint_that_loads",
        "faults/test_kills.py::test_an_epoch_that_was_logged_and_not_saved_is_there_once",
    )),
    4: ("SIGTERM", "143; saved once training has begun; exact on resume", (
        "faults/test_signals.py::test_before_there_is_a_run",
        "faults/test_signals.py::test_before_training_has_begun",
        "faults/test_signals.py::test_a_stopped_run_ends_as_the_uninterrupted_one",
        "faults/test_true_command.py::test_a_run_that_a_signal_ended_goes_on_bit_for_bit",
    )),
    5: ("Ctrl-C, then a second", "130; corrupts nothing", (
        "faults/test_signals.py::test_a_second_ctrl_c_corrupts_nothing",
        "faults/test_signals.py::test_a_stopped_run_ends_as_the_uninterrupted_one",
        "faults/test_true_command.py::test_a_run_that_a_signal_ended_goes_on_bit_for_bit",
    )),
    6: ("disk full on save", "6; the old file whole, no temporary files", (
        "faults/test_checkpoints.py::test_a_full_disk_keeps_the_old_checkpoint",
        "faults/test_checkpoints.py::test_a_file_that_may_not_grow_keeps_the_old_checkpoint",
    )),
    7: ("$TMPDIR on another device", "saves are atomic still", (
        "faults/test_checkpoints.py::test_the_temporary_folder_does_not_matter",
    )),
    8: ("truncated, empty or garbage checkpoint", "4; names a good one", (
        "faults/test_checkpoints.py::test_a_harmed_checkpoint_is_refused_and_a_good_one_named",
        "faults/test_true_command.py::test_a_checkpoint_that_was_cut_short_is_refused",
    )),
    9: ("flipped byte", "4, 'damaged'", (
        "faults/test_checkpoints.py::test_a_flipped_byte_is_damage",
        "faults/test_checkpoints.py::test_every_flip_of_a_bit_is_told_or_harmless",
    )),
    10: ("pickle bomb", "4; does not go off", ("faults/test_checkpoints.py::test_a_pickle_bomb_does_not_go_off",)),
    11: ("a class to import, a URL", "4; nothing imported or fetched", (
        "faults/test_checkpoints.py::test_a_class_to_import_is_not_imported",
        "faults/test_checkpoints.py::test_a_url_is_not_fetched",
    )),
    12: ("another architecture or class count", "4; names the difference", (
        "faults/test_checkpoints.py::test_another_net_is_told_by_its_difference",
    )),
    13: ("resume without a checkpoint", "4, never a fresh start", (
        "faults/test_checkpoints.py::test_where_there_is_no_checkpoint_nothing_starts",
    )),
    14: ("resume with other settings or another machine", "refused or told, by a written policy", (
        "faults/test_policy.py::test_refused_within_an_epoch",
        "faults/test_policy.py::test_told_after_an_epoch",
        "faults/test_policy.py::test_another_thread_count_is_told",
        "faults/test_policy.py::test_another_machine_is_told",
        "faults/test_policy.py::test_a_schedule_keeps_the_batch_size_after_an_epoch_too",
        "test_fit.py::test_what_cannot_change_when_a_run_goes_on",
    )),
    15: ("data set missing, truncated, corrupt", "3; names the file and the command", (
        "faults/test_data.py::test_a_bad_file_is_named_with_the_command_that_mends_it",
        "faults/test_data.py::test_no_data_and_no_source_names_the_ways_out",
    )),
    16: ("half-extracted data set", "repaired from an archive; without one 3", (
        "faults/test_data.py::test_a_half_extracted_set_is_repaired_from_the_archive_beside_it",
        "faults/test_data.py::test_a_half_extracted_set_without_a_source",
    )),
    17: ("download drops", "next mirror; else 3 and no final file", (
        "faults/test_data.py::test_a_bad_mirror_is_left_for_the_next",
        "faults/test_data.py::test_where_every_mirror_drops_there_is_no_final_file",
    )),
    18: ("mirror serves wrong bytes", "next mirror; else 3; never unpickled", (
        "faults/test_data.py::test_wrong_bytes_are_thrown_away_unread",
    )),
    19: ("crafted tar", "3; nothing written outside", (
        "faults/test_data.py::test_a_crafted_archive_writes_nothing_outside",
        "data/test_download.py::test_a_crafted_archive_is_refused_whole",
    )),
    20: ("several prepare at once", "all succeed; one download", (
        "faults/test_data.py::test_ten_fits_at_once_get_ten_folders_and_one_download",
    )),
    21: ("read-only data folder", "works", ("faults/test_data.py::test_a_read_only_data_folder_works",)),
    22: ("unwritable log folder", "6, before training", (
        "faults/test_run_faults.py::test_logs_that_cannot_be_written",
    )),
    23: ("unknown key, bad type, bad range", "2; names the key", (
        "faults/test_input.py::test_wrong_flags",
        "faults/test_input.py::test_wrong_settings_in_a_file",
        "faults/test_input.py::test_files_that_are_no_settings",
        "faults/test_input.py::test_in_a_process_of_its_own",
        "faults/test_true_command.py::test_a_mistyped_flag_is_told_the_right_name",
        "test_config.py::test_wrong_input_is_one_line",
    )),
    24: ("batch size above the data", "2", ("faults/test_run_faults.py::test_a_batch_above_the_data",)),
    25: ("NaN or Inf in loss or gradient", "5; no weight updated by it; the batch named", (
        "faults/test_finite.py::test_the_weights_stay_those_of_before_the_bad_batch",
        "faults/test_finite.py::test_a_good_run_is_the_same_with_and_without_the_guard",
        "faults/test_finite.py::test_no_save_in_the_same_epoch_holds_a_bad_batch",
        "faults/test_finite.py::test_added_gradients_name_their_batches",
        "faults/test_finite.py::test_two_processes_stop_together",
        "test_no_sync.py::test_reads_do_not_grow_with_the_steps",
    )),
    26: ("max_epochs 0", "0; claims no checkpoint", ("faults/test_run_faults.py::test_no_epochs_claim_no_checkpoint",)),
    27: ("pictures that are none, are cut or are bombs, for predict", "6; each named, the rest done", (
        "inference/test_broken_pictures.py::test_a_thousand_files_a_third_of_them_broken",
        "inference/test_picture.py::test_a_decompression_bomb_is_never_decoded",
        "inference/test_picture.py::test_what_is_no_picture",
    )),
    28: ("unicode and spaces in paths", "everything works", (
        "faults/test_run_faults.py::test_every_path_may_have_spaces_and_any_letters",
    )),
    29: ("TensorBoard's port busy", "training unaffected", (
        "faults/test_run_faults.py::test_a_busy_port_of_tensorboard_is_no_concern",
    )),
    30: ("two runs, one folder", "the second: 6, 'in use'", (
        "faults/test_run_faults.py::test_two_runs_in_one_folder_are_one_too_many",
        "faults/test_run_faults.py::test_the_lock_of_a_dead_process_blocks_nobody",
        "faults/test_run_faults.py::test_a_run_that_went_on_between_reading_and_locking_is_not_overwritten",
    )),
    31: ("a process dies", "non-zero, no hang", (
        "faults/test_run_faults.py::test_a_dead_process_of_several_ends_the_run",
    )),
    32: ("out of memory", "non-zero, advice, the last checkpoint whole", (
        "faults/test_run_faults.py::test_out_of_memory_is_advice_and_keeps_the_checkpoint",
    )),
    33: ("kill -9 of a rank", "all end within 60 s, a line names it; torchrun goes on with the same weights", (
        "test_nodes.py::test_a_killed_rank_ends_the_others_with_its_name",
        "test_nodes.py::test_a_killed_rank_of_the_other_node_is_named",
        "test_nodes.py::test_torchrun_starts_a_killed_group_anew_from_its_checkpoint",
    )),
    34: ("SIGHUP, SIGUSR1, SIGUSR2", "saved at the next batch, 128 + n, exact on resume", (
        "faults/test_signals.py::test_before_there_is_a_run",
        "faults/test_signals.py::test_a_stopped_run_ends_as_the_uninterrupted_one",
        "test_nodes.py::test_a_closed_terminal_saves_and_ends",
    )),
    35: ("a checkpoint of another run's requeueing, a job's variables", "a fresh fit is fresh", (
        "test_nodes.py::test_variables_of_a_job_without_srun_change_nothing",
        "test_nodes.py::test_the_tasks_of_a_step_are_one_run",
    )),
    36: ("torchrun without --trainer.devices", "one run of all its processes", (
        "test_nodes.py::test_one_process_torchrun_and_two_nodes_train_alike",
        "test_nodes.py::test_two_ranks_score_once_into_one_file",
    )),
    37: ("a Ray node lost in a study", "its runs go on elsewhere from their last checkpoint", (
        "study/test_machines.py::test_a_node_is_lost_in_the_middle",
    )),
    38: ("a node that does not see the shared folder", "one line before the first run", (
        "study/test_machines.py::test_a_node_that_does_not_see_the_folder",
    )),
    39: ("a search's journal cut in mid-line", "opens; what was noted before is kept", (
        "search/test_trials.py::test_a_journal_cut_anywhere_opens",
    )),
    40: ("no network, no data", "fit trains on the sample and says so", (
        "test_first_minute.py::test_fit_and_test_without_data_and_network",
    )),
    41: ("a symlink loop, an unreadable folder among images", "one line each, the rest classified", (
        "inference/test_broken_pictures.py::test_links_in_a_circle_and_a_locked_folder",
    )),
    42: ("slow clients, large uploads, foreign hosts at demo", "others are served; refused; ends at Ctrl-C", (
        "inference/test_demo.py::test_slow_clients_harm_nobody",
        "inference/test_demo.py::test_what_is_refused",
        "inference/test_demo.py::test_it_serves_until_ctrl_c_and_leaves_nothing",
    )),
}  # fmt: skip
