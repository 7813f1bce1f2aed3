"""What people set for IPython: configuration, startup files, extensions. Read as ipykernel reads it.

Configuration counts for the shell from its beginning. Code runs with the first thing that this process is asked, where
its output and its errors have somebody to see them; a spare worker runs none as long as it is a spare.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

from IPython.core.application import BaseIPythonApplication
from IPython.core.shellapp import InteractiveShellApp
from IPython.extensions import storemagic as _storemagic  # noqa: F401  # which is always loaded, with the first cell
from traitlets import Any as AnyTrait
from traitlets import Unicode

#: Environment variables: options of IPython's that the kernel was started with, as JSON; and its connection file.
OPTIONS, CONNECTION_FILE = "CAPSULE_IPYTHON_OPTIONS", "CAPSULE_CONNECTION_FILE"


class IPKernelApp(BaseIPythonApplication, InteractiveShellApp):
    """Reads ``ipython_config.py`` and ``ipython_kernel_config.py``, and runs what they and the profile say.

    It has the name by which such files, and libraries that look for a notebook, know a kernel's application.
    """

    name = "ipython-kernel"
    connection_file = Unicode().tag(config=True)
    #: What libraries take for the kernel.
    kernel = AnyTrait()
    #: Whether what they say was run.
    begun = False
    _kept: list[logging.LogRecord]

    @property
    def abs_connection_file(self) -> str:
        """The path of the connection file."""
        return self.connection_file

    @property
    def connection_dir(self) -> str:
        """The directory in which it is."""
        return str(Path(self.connection_file).parent) if self.connection_file else ""

    @classmethod
    def read(cls) -> IPKernelApp:
        """Return the application of this process, with the configuration that counts here."""
        log = logging.getLogger(cls.__name__)
        app: IPKernelApp = cls.instance(log=log, auto_create=True, connection_file=os.environ.get(CONNECTION_FILE, ""))
        kept = _Kept()
        log.addHandler(kept)
        try:
            app._read(json.loads(os.environ.pop(OPTIONS, "[]")))
        # As in IPython: a configuration that cannot be read does not keep the kernel from starting.
        except (Exception, SystemExit):
            log.warning("IPython's configuration was not read", exc_info=True)
        log.removeHandler(kept)
        app._kept = kept.records
        # By this libraries recognise a notebook.
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

    def begin(self) -> None:
        """Load extensions, and run startup files and lines; once."""
        if self.begun:
            return
        self.begun = True
        for record in self._kept:
            self.log.handle(record)
        self.init_gui_pylab()
        self.init_extensions()
        self.init_code()


class _Kept(logging.Handler):
    """Keeps what is to be said when there is somebody to hear it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)
