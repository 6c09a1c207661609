"""How the reader, reranker and verifier heads of `loam.grounding` are made: data, training, weighing, export.

The whole chain, from the repository's root with `PYTHONPATH=src` and the extras `grounding` and `training` (M is the
folder of all-MiniLM-L6-v2, T one of your own, H is src/loam/grounding/heads, D the folder of the question sets):

    python -m recipes.heads.make_data --data D --out .training
    python -m recipes.heads.train --encoder M --made .training --run human --stage human
    python -m recipes.heads.train --encoder M --made .training --run read --begin human --stage read
    python -m recipes.heads.export --encoder M --made .training --run read --heads span rank --out T/read-1.safetensors
    python -m recipes.heads.export --encoder M --made .training --run human --heads verify --out T/verify-1.safetensors
    python -m recipes.heads.calibrate --data D --heads T --out .training/calibration.json
    python -m recipes.heads.weigh --made .training --heads T --out src/loam/grounding/checks/support.toml
    python -m recipes.heads.decline --data D --heads T --out src/loam/grounding/checks/answered.toml
    python -m bench.heads D --heads T --json .training/figures.json

Then both exports once more, into H, with `--calibration .training/calibration.json --figures .training/figures.json`;
`python -m recipes.heads.card H` prints the card, `python -m bench.heads D --page bench/HEADS.md` the figures of what
ships. A run that is stopped goes on from its last checkpoint; its curve stands beside it (curves/ keeps thinned ones).
"""
