"""How the pocket model is made: the small decoder that ships with Loam, for demonstrations and tests.

From the repository's root, with `PYTHONPATH=src` and the extra `engine` (D is the folder of the texts):

    python -m recipes.pocket.train --data D --made .training/pocket
    python -m recipes.pocket.export --made .training/pocket --out src/loam/engine/pocket

Some fifteen minutes on one quiet CPU core. A run that is stopped goes on from its last checkpoint; `curve.csv` in the
folder of `--made` is its curve (curves/ keeps the one of the model that ships). That one was planned longer and cut to
880 steps on the way, by which its rate began to fall at step 656; the settings give a run of the same length.
"""
