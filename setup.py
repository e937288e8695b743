"""Package metadata."""

from pathlib import Path

from setuptools import find_packages, setup

SERVING = ["tensorflow-serving-api>=2.20,<2.22"]
TEST = [*SERVING, "hypothesis>=6.100", "pytest>=8", "pytest-xdist>=3.5"]

setup(
    name="sedona_tf",
    version="0.1.0",
    description="SEDONA on TensorFlow and Keras: search for decoupled neural networks",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["sedona_tf", "sedona_tf.*"]),
    package_data={"sedona_tf": ["py.typed", "reporting/templates/*"]},
    python_requires=">=3.10,<3.13",
    install_requires=[
        "absl-py>=2.1",
        "importlib_resources>=6",  # tensorflow-datasets needs it and does not ask for it
        "jinja2>=3.1",
        "keras>=3.12,<4",
        "keras-tuner>=1.4.7",
        "matplotlib>=3.8",
        "ml_collections>=1.0",
        "numpy>=1.26",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "tensorboard>=2.20,<2.22",
        "tensorflow>=2.20,<2.22",
        "tensorflow-datasets>=4.9.8",
        "tqdm>=4.66",
    ],
    extras_require={
        "serving": SERVING,
        "test": TEST,
        "dev": [*TEST, "mypy>=1.11", "ruff>=0.6"],
    },
)
