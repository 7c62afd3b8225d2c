"""The verbs `fit`, `test` and `validate`: the Trainer, its callbacks, the resume policy, the console output.

Nothing here knows inference or studies.
"""
