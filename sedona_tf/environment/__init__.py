"""The machine and the process: cores, memory, kernels, Keras' backend, TensorFlow's settings.

State of the whole process is changed by these only:

- `process_settings`, which fit, runs and the making of layers enter, puts back what it changes:
  options of the graph optimizer, Keras' precision and data format, determinism of operations.
- Runs and dry runs seed all random generators with `keras.utils.set_random_seed`.
- `keras_backend` imports Keras on TensorFlow; a process has one backend.
- `choose_kernels` sets TensorFlow's variables of the environment. Only commands call it.
- `keep_to_share_of_cores` sets the CPU affinity, for good. Only the command `profile` calls it.
- `sedona_tf.cluster.connection.bypass_proxy` sets `grpc_proxy`; a process connects only once.
- `sedona_tf.runs.signals.StopRequest` takes over signals for the length of a run.
"""
