"""The compiled part, which pyproject.toml cannot describe for every Python."""

import sysconfig

from setuptools import Extension, setup

# One wheel for all versions of Python; one without the lock has no stable ABI.
stable = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    ext_modules=[
        Extension(
            "producer_pool_websocket_speedups._frames",
            ["_frames.c"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if stable else [],
            py_limited_api=stable,
            # Without a compiler it is installed, too, and cannot be imported; then Python does the work.
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if stable else {},
)
