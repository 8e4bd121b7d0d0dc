"""A plugin of Dask's workers that unpacks shipped files on each machine. shipping.py makes it.

A Dask worker imports this module to unpickle the plugin, and calls setup() before it takes any task.
"""

import hashlib
import importlib
import io
import os
import shutil
import sys
import zipfile

from distributed import WorkerPlugin

__all__ = ["Unpacking"]


class Unpacking(WorkerPlugin):
    """data: a zip archive, whose files become importable on each machine. name: is the same for the same archive."""

    def __init__(self, data):
        self.data = data
        self.name = f"goproc-ship-{hashlib.sha256(data).hexdigest()[:16]}"
        self._folder = None

    def setup(self, worker):
        """Unpack, and put the files first in sys.path of this process, and of those that it starts."""
        self._folder = os.path.join(worker.local_directory, self.name)
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
            archive.extractall(self._folder)
            names = {name.partition("/")[0].removesuffix(".py") for name in archive.namelist()}
            for info in archive.infolist():
                if mode := info.external_attr >> 16:
                    os.chmod(os.path.join(self._folder, info.filename), mode)
        sys.path.insert(0, self._folder)
        paths = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = self._folder if not paths else self._folder + os.pathsep + paths
        importlib.invalidate_caches()
        self._forget(names)

    def teardown(self, worker):
        """Remove the files."""
        if self._folder is None:
            return
        if self._folder in sys.path:
            sys.path.remove(self._folder)
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path != self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)
        importlib.invalidate_caches()
        self._folder = None

    @staticmethod
    def _forget(names):
        """Have modules of an earlier program, perhaps in another version, imported again."""
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] in names and "goproc-ship-" in (getattr(module, "__file__", None) or ""):
                del sys.modules[name]
