"""A process of its own: `FOLDER IN.npz OUT.npz TENSORS.json`, by TensorFlow's C API alone.

The C API loads a SavedModel as a server does: graph and session, no Python and no objects. It is
in the shared libraries of TensorFlow's wheel. TENSORS.json has, by signature, its tensors' names.
"""

import ctypes
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

TYPES = {1: np.float32, 4: np.uint8, 9: np.int64}  # TF_DataType
POINTERS = (
    *("TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions", "TF_LoadSessionFromSavedModel"),
    *("TF_GraphOperationByName", "TF_AllocateTensor", "TF_TensorData"),
)


class Output(ctypes.Structure):
    """TF_Output: one tensor of a graph."""

    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class Session:
    """A SavedModel's graph and session."""

    def __init__(self, folder: str) -> None:
        wheel = Path(importlib.util.find_spec("tensorflow").origin).parent
        ctypes.CDLL(str(wheel / "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL)
        self.c = ctypes.CDLL(str(wheel / "libtensorflow_cc.so.2"))
        for name in POINTERS:
            getattr(self.c, name).restype = ctypes.c_void_p
        self.c.TF_Message.restype = ctypes.c_char_p
        self.c.TF_Dim.restype = ctypes.c_int64
        self.status = ctypes.c_void_p(self.c.TF_NewStatus())
        self.graph = ctypes.c_void_p(self.c.TF_NewGraph())
        options = ctypes.c_void_p(self.c.TF_NewSessionOptions())
        tags = (ctypes.c_char_p * 1)(b"serve")
        session = self.c.TF_LoadSessionFromSavedModel(
            options, None, folder.encode(), tags, 1, self.graph, None, self.status
        )
        self.check()
        self.session = ctypes.c_void_p(session)

    def check(self) -> None:
        if self.c.TF_GetCode(self.status):
            sys.exit(self.c.TF_Message(self.status).decode())

    def find(self, name: str) -> Output:
        operation, index = name.split(":")
        found = self.c.TF_GraphOperationByName(self.graph, operation.encode())
        assert found, name
        return Output(found, int(index))

    def tensor(self, array: np.ndarray) -> int:
        kind = next(number for number, dtype in TYPES.items() if dtype == array.dtype)
        dims = (ctypes.c_int64 * array.ndim)(*array.shape)
        size = ctypes.c_size_t(array.nbytes)
        tensor = self.c.TF_AllocateTensor(kind, dims, array.ndim, size)
        data = self.c.TF_TensorData(ctypes.c_void_p(tensor))
        ctypes.memmove(data, array.tobytes(), array.nbytes)
        return tensor

    def array(self, tensor: int) -> np.ndarray:
        pointer = ctypes.c_void_p(tensor)
        shape = [self.c.TF_Dim(pointer, axis) for axis in range(self.c.TF_NumDims(pointer))]
        array = np.empty(shape, TYPES[self.c.TF_TensorType(pointer)])
        ctypes.memmove(array.ctypes.data, self.c.TF_TensorData(pointer), array.nbytes)
        return array

    def run(self, source: str, images: np.ndarray, wanted: list[str]) -> list[np.ndarray]:
        count = len(wanted)
        results = (ctypes.c_void_p * count)()
        inputs = (Output * 1)(self.find(source)), (ctypes.c_void_p * 1)(self.tensor(images)), 1
        outputs = (Output * count)(*map(self.find, wanted)), results, count
        nothing = None, 0, None
        self.c.TF_SessionRun(self.session, None, *inputs, *outputs, *nothing, self.status)
        self.check()
        return [self.array(tensor) for tensor in results]


def main(folder: str, given: str, results: str, names: str) -> None:
    session, tensors = Session(folder), json.loads(Path(names).read_text())
    answers = {}
    for key, images in np.load(given).items():
        signature = tensors[key.split("/")[0]]
        outputs = signature["outputs"]
        arrays = session.run(signature["images"], images, list(outputs.values()))
        answers |= {f"{key}/{name}": array for name, array in zip(outputs, arrays, strict=True)}
    np.savez(results, **answers)
    assert "tensorflow" not in sys.modules


if __name__ == "__main__":
    main(*sys.argv[1:])
