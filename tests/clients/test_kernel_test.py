"""The kernel held against jupyter_kernel_test, every sample of it. No sample set is left out.

What is not in that package (streams in order, updates, interrupts, questions) has tests in this folder.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jupyter_kernel_test
import pytest

from tests.support.kernels import KERNEL

PNG = (
    "import base64\nfrom IPython.display import Image, display\n"
    "display(Image(base64.b64decode('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk"
    "YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==')))"
)


@pytest.mark.usefixtures("home")
class TestKernel(jupyter_kernel_test.KernelTests):
    """Every sample set that the package knows."""

    kernel_name = KERNEL
    language_name = "python"
    file_extension = ".py"

    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('to stderr', file=sys.stderr)"

    completion_samples: ClassVar[list[dict[str, Any]]] = [
        {"text": "zi", "matches": {"zip"}},
        {"text": "import st"},
        {"text": "'abc'.isdec", "matches": {"isdecimal"}},
    ]

    complete_code_samples: ClassVar[list[str]] = [
        "1",
        "print('hello, world')",
        "def f(x):\n  return x*2\n\n\n",
        "%matplotlib inline",
        "await something()",
        "x = '''a\nb'''",
    ]
    incomplete_code_samples: ClassVar[list[str]] = [
        "print('''hello",
        "def f(x):\n  x*2",
        "for i in range(3):",
        "x = (1,",
        "%%bash\necho hi",
        "async def f():",
    ]
    invalid_code_samples: ClassVar[list[str]] = ["import = 7q", "x = = 1", "  )"]

    code_page_something = "zip?"
    code_generate_error = "raise ValueError('as asked')"

    code_execute_result: ClassVar[list[dict[str, str]]] = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
        {
            "code": "import IPython.display as d; d.HTML('<b>x</b>')",
            "mime": "text/html",
            "result": "<b>x</b>",
        },
        {"code": "d.Latex('$x$')", "mime": "text/latex", "result": "$x$"},
        {"code": "d.JSON({'a': 1})", "mime": "application/json"},
    ]
    code_display_data: ClassVar[list[dict[str, str]]] = [
        {
            "code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))",
            "mime": "text/html",
        },
        {"code": "display('plain')", "mime": "text/plain"},
        {"code": PNG, "mime": "image/png"},
        {"code": "from IPython.display import SVG; display(SVG('<svg/>'))", "mime": "image/svg+xml"},
    ]

    code_history_pattern = "1?2*"
    # ipykernel answers a range of the current session with the session number 0, against the specification.
    supported_history_operations = ("tail", "search", *(["range"] if KERNEL == "capsule" else []))

    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"


@pytest.mark.usefixtures("home")
class TestWelcome(jupyter_kernel_test.IopubWelcomeTests):
    """The first message that a new subscriber of iopub receives (JEP 65)."""

    kernel_name = KERNEL
    support_iopub_welcome = True
