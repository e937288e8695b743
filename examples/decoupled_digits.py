# %% [markdown]
# # From digits to a decoupled network
#
# A small ResNet on scikit-learn's 8x8 digits: a short search for where to cut it, two blocks that
# train on their own losses, early exits and an ensemble, and a SavedModel. Run it as a script, or
# cell by cell in an editor that knows `# %%`. It takes about 2 minutes on 2 cores.

# %%
from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from sedona_tf import Plan, backbones, data, decouple
from sedona_tf.auxiliary import Candidate, CrossEntropy
from sedona_tf.evaluate.ensemble import Ensemble
from sedona_tf.search.search_model import SearchModel

SEARCH_STEPS = int(os.environ.get("SEARCH_STEPS", "10"))
EPOCHS = int(os.environ.get("EPOCHS", "10"))
OUTPUT = Path(os.environ.get("OUTPUT") or tempfile.mkdtemp())
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Data
#
# `SearchData` holds 40 % of the training images back: they are what a search differentiates its
# outer loss on. Batches are functions of the seed and the step. Images are normalised, and moved
# by up to one pixel for training.

# %%
train = data.load("digits", "train")
search_data = data.SearchData(
    train, batch_size=32, validation_batch_size=64, inner_steps=1, pad=1, flip=False
)
backbone = backbones.build("resnet18", search_data.input_shape, search_data.num_classes, width=4)
print(f"{len(train.images)} images {search_data.input_shape}, {len(backbone.units)} units")

# %% [markdown]
# ## Search
#
# First some ordinary steps of the supernet, then steps that also move alpha and beta: each one
# looks at the validation loss after `inner_steps` steps of training. So few steps show how it is
# done, and decide little; see the guide for a real search.

# %%
search = SearchModel(backbone, [Candidate("separable", (("depth", 1),))], learning_rate=0.05)
search.compile(keras.optimizers.Adam(1e-2, beta_1=0.5))
search.fit(search_data.training(0, 3 * SEARCH_STEPS), shuffle=False, verbose=2)
search.fit(search_data.search(0, SEARCH_STEPS), shuffle=False, verbose=2)

plan = Plan(
    backbone=backbone.name,
    units=Plan.fingerprint(backbone),
    candidates=tuple(candidate.to_dict() for candidate in search.supernet.candidates),
    alpha=tuple(map(tuple, search.alpha.numpy().tolist())),
    beta=tuple(map(tuple, search.beta.numpy().tolist())),
)
plan.save(OUTPUT / "plan.json")
print("cut probabilities:", [round(p, 3) for p in plan.cut_probability])

# %% [markdown]
# ## Decoupled training
#
# A new network of the same architecture, cut in two where the plan says. The optimizer is the last
# block's. The first block has one like it, and its loss is its auxiliary net's.

# %%
training_data = data.TrainingData(
    train, batch_size=32, pad=1, flip=False, test=lambda: data.load("digits", "test")
)
backbone = backbones.build("resnet18", (8, 8, 1), 10, width=8)
decoupling = plan.decode(num_blocks=2)
print("blocks of units:", decoupling.blocks())
model = decouple(backbone, decoupling, devices="CPU:0")
steps = training_data.steps_per_epoch * EPOCHS
model.compile(
    keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, steps), momentum=0.9),
    CrossEntropy(0.1),
    metrics=["accuracy"],
)
history = model.fit(
    training_data.training(0, steps),
    steps_per_epoch=training_data.steps_per_epoch,
    epochs=EPOCHS,
    validation_data=training_data.validation(),
    shuffle=False,
    verbose=2,
).history

# %% [markdown]
# ## Exits and ensemble
#
# Every block's classifier can answer by itself, and all of them together. Their temperatures are
# fitted on the validation images; the test images are looked at once.

# %%
ensemble = Ensemble(model).calibrate(training_data.validation())
evaluation = ensemble.evaluate(training_data.test())
print(f"test error of the exit after block 1: {evaluation.exits[0]:.3f}")
print(f"test error of the head: {evaluation.head:.3f}")
print(f"test error of both, calibrated: {evaluation.calibrated_ensembles[0]:.3f}")

# %% [markdown]
# ## Export
#
# Keras' own format keeps the whole decoupled model. `export` writes a SavedModel of the head for
# normalised images; `python -m sedona_tf.export` writes one for raw images, with every exit, of a
# run that `python -m sedona_tf.train` made.

# %%
model.save(OUTPUT / "model.keras")
images, _ = next(iter(training_data.validation()))
inputs = keras.InputSpec(shape=(None, 8, 8, 1), dtype="float32")
model.export(OUTPUT / "saved_model", input_signature=[inputs], verbose=False)
served = tf.saved_model.load(str(OUTPUT / "saved_model"))
tf.debugging.assert_near(served.serve(images), model(images, training=False), atol=1e-4)
print("wrote", sorted(path.name for path in OUTPUT.iterdir()))
