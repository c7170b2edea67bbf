"""Compiles slt_infer._core with ninja; everything else about the package is in pyproject.toml."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


def load_build():  # type: ignore[no-untyped-def]
    """csrc/build.py, which is no package and must not be mistaken for the one called `build`."""
    path = Path(__file__).resolve().parent / "csrc" / "build.py"
    spec = importlib.util.spec_from_file_location("slt_csrc_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class NinjaBuild(build_ext):
    """build_ext by one build.ninja: its own flags for each file, parallel, and only what changed."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        build = load_build()
        includes = [pybind11.get_include(), sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
        flags = [*build.FLAGS]
        if self.debug:
            flags += ["-O0", "-g"]
        build.compile_and_link(
            output=Path(self.get_ext_fullpath(ext.name)).resolve(),
            files=build.sources(build.host(), bindings=True),
            # Not build_temp, which pip gives a new name each time: only what changed is compiled.
            folder=Path(self.get_finalized_command("build").build_base).resolve() / "core",
            compiler=os.environ.get("CXX", "g++"),
            flags=[*flags, *shlex.split(os.environ.get("CXXFLAGS", ""))],
            link_flags=["-shared", "-pthread", *shlex.split(os.environ.get("LDFLAGS", ""))],
            bind_flags=[f"-I{path}" for path in dict.fromkeys(includes)],
        )


# The sources are listed by csrc/build.py, so that a new file needs no change here.
setup(ext_modules=[Extension("slt_infer._core", sources=[])], cmdclass={"build_ext": NinjaBuild})
