"""IPython's configuration, startup files and extensions, read as ipykernel reads them.

Configuration counts for the shell from its beginning. Startup code runs with the first request to this process, so that
its output and its errors are shown below a cell; a spare worker runs none.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

from IPython.core.application import BaseIPythonApplication
from IPython.core.shellapp import InteractiveShellApp
from IPython.extensions import storemagic as _storemagic  # noqa: F401  # every first cell loads it
from traitlets import Any as AnyTrait
from traitlets import Unicode

#: Environment variables: options of IPython that the kernel was started with, in JSON; and its connection file.
OPTIONS, CONNECTION_FILE = "CAPSULE_IPYTHON_OPTIONS", "CAPSULE_CONNECTION_FILE"


class IPKernelApp(BaseIPythonApplication, InteractiveShellApp):
    """Reads ``ipython_config.py`` and ``ipython_kernel_config.py``, and runs the startup code of the profile.

    Configuration files, and libraries that look for a notebook, know a kernel's application by this name.
    """

    name = "ipython-kernel"
    connection_file = Unicode().tag(config=True)
    #: What libraries take for the kernel.
    kernel = AnyTrait()
    _records: list[logging.LogRecord]

    @property
    def abs_connection_file(self) -> str:
        """The path of the connection file."""
        return self.connection_file

    @property
    def connection_dir(self) -> str:
        """The directory of the connection file."""
        return str(Path(self.connection_file).parent) if self.connection_file else ""

    @classmethod
    def read(cls) -> IPKernelApp:
        """Return the application of this process, with its configuration."""
        log = logging.getLogger(cls.__name__)
        app: IPKernelApp = cls.instance(log=log, auto_create=True, connection_file=os.environ.get(CONNECTION_FILE, ""))
        keeper = _RecordKeeper()
        log.addHandler(keeper)
        try:
            app._read(json.loads(os.environ.pop(OPTIONS, "[]")))
        # As in IPython: the kernel starts with a configuration that cannot be read.
        except (Exception, SystemExit):
            log.warning("IPython's configuration was not read", exc_info=True)
        log.removeHandler(keeper)
        app._records = keeper.records
        # Libraries recognise a notebook by this.
        app.config.IPKernelApp.connection_file = app.connection_file
        if not getattr(sys.flags, "safe_path", False):
            app.init_path()
        return app

    def _read(self, options: list[str]) -> None:
        if options:
            self.parse_command_line(options)
        self.init_profile_dir()
        self.init_config_files()
        self.load_config_file()

    def run_startup(self) -> None:
        """Load extensions, and run startup files and lines. The shell calls this once, before the first code."""
        for record in self._records:
            self.log.handle(record)
        self.init_gui_pylab()
        self.init_extensions()
        self.init_code()


class _RecordKeeper(logging.Handler):
    """Keeps log records until a cell can show them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
