"""The machine and the process: cores, memory, kernels, Keras' backend, TensorFlow's settings."""
