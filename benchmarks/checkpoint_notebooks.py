"""Notebooks whose checkpoints are measured: what they compute, and how to tell whether their state came back.

The cells are plain text, so that any kernel and any Python can run them. What they make is random but seeded: the data
cannot be compressed away, and is the same in every run. Each is made for a ``scale``: 1.0 gives the sizes that its
description names.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Bytes of a float, which is what most of the data consists of.
_FLOAT = 8
#: Rows of a column of floats of 100 MB.
_COLUMN = 100_000_000 // _FLOAT


@dataclass(frozen=True)
class Notebook:
    """Cells, and what is looked at afterwards.

    Args:
        name: as it is called in reports.
        cells: they are run in order, and must not fail.
        setup: how many of the first cells make the namespace; those after them are what is measured.
        checks: expressions whose values must be the same before a kernel dies and after its state is back. They leave
            the state as it is. The first one needs little of it.
    """

    name: str
    cells: tuple[str, ...]
    setup: int
    checks: tuple[str, ...] = ()

    @property
    def preparation(self) -> tuple[str, ...]:
        """The cells that make the namespace."""
        return self.cells[: self.setup]

    @property
    def changes(self) -> tuple[str, ...]:
        """The cells after those that make the namespace."""
        return self.cells[self.setup :]


def workload_a(scale: float = 1.0) -> Notebook:
    """Return a DataFrame of 500 MB, then ten cells that touch little of it, or nothing."""
    return Notebook(
        "A",
        (
            "import numpy as np\nimport pandas as pd",
            (
                "rng = np.random.default_rng(1)\n"
                f"frame = pd.DataFrame(rng.random(({_count(_COLUMN // 2, scale, 2000)}, 10)), "
                "columns=[f'c{i}' for i in range(10)])"
            ),
            "frame.iloc[5, 3] = 1.5",
            "threshold = 0.5",
            "mean = float(frame['c1'].mean())",
            "frame.loc[1000, 'c7'] = -1.0",
            "names = list(frame.columns)",
            "frame.columns = [*names[:9], 'last']",
            "settings = {'threshold': threshold, 'names': names}",
            "frame.iat[0, 0] = 42.0",
            "settings['seen'] = len(frame)",
            "above = int((frame['c2'] > threshold).sum())",
        ),
        setup=2,
        checks=(
            "threshold, mean, above",
            "frame.shape, list(frame.columns)",
            "frame.iat[5, 3], frame.at[1000, 'c7'], frame.iat[0, 0]",
            "float(frame.to_numpy().sum())",
            "settings",
            "settings['names'] is names",
            "rng.bit_generator.state",
        ),
    )


def workload_b(scale: float = 1.0) -> Notebook:
    """Return a list of 300,000 dicts, of which one changes at a time."""
    rows = _count(300_000, scale, 100)
    return Notebook(
        "B",
        (
            (
                "data = [{'id': i, 'name': f'user{i}', 'score': i * 0.5, 'tags': ['a', str(i % 7)]} "
                f"for i in range({rows})]"
            ),
            "len(data)",
            f"data[{rows // 2}]['score'] = -1.0",
            "data[7]['tags'].append('changed')",
            "total = sum(row['score'] for row in data)",
        ),
        setup=1,
        checks=(
            "total",
            "len(data), data[-1]",
            f"data[{rows // 2}]",
            "data[7]",
            "sum(row['score'] for row in data)",
        ),
    )


def mixed(scale: float = 1.0) -> Notebook:
    """Return a namespace of 1 GB of all sorts, then ten cells that change little."""
    records, rows = _count(200_000, scale, 2000), _count(1_000_000, scale, 2000)
    return Notebook(
        "mixed",
        (
            (
                "import random\nfrom dataclasses import dataclass\n\n"
                "import matplotlib\n\nmatplotlib.use('Agg')\n"
                "import matplotlib.pyplot as plt\nimport numpy as np\nimport pandas as pd\n"
                "from sklearn.linear_model import LogisticRegression\nfrom sklearn.pipeline import make_pipeline\n"
                "from sklearn.preprocessing import StandardScaler"
            ),
            (
                "rng = np.random.default_rng(2)\n"
                f"prices = pd.DataFrame(rng.random(({_count(2_500_000, scale, 2000)}, 10)), "
                "columns=[f'p{i}' for i in range(10)])"
            ),
            (
                f"customers = pd.DataFrame({{'id': np.arange({rows}), 'age': rng.integers(18, 90, {rows})}})\n"
                "customers['name'] = 'customer ' + customers['id'].astype(str)\n"
                f"customers['city'] = rng.choice(['Berlin', 'Lima', 'Osaka', 'Tunis'], {rows})"
            ),
            (
                f"matrix = rng.random(({_count(4000, scale)}, 12_500))\n"
                f"series = rng.standard_normal({_count(_COLUMN, scale, 2000)})\n"
                "window = series[100:200]\n"
                f"pixels = rng.integers(0, 256, {_count(150_000_000, scale)}, dtype=np.uint8)"
            ),
            (
                f"records = [{{'id': i, 'user': f'user{{i}}', 'score': i * 0.5}} for i in range({records})]\n"
                "by_user = {row['user']: row for row in records[:1000]}"
            ),
            (
                "labels = (prices['p0'][:20_000] > 0.5).astype(int)\n"
                "model = make_pipeline(StandardScaler(), LogisticRegression())\n"
                "model = model.fit(prices.iloc[:20_000], labels)"
            ),
            "figure, axes = plt.subplots()\nlines = axes.plot(series[:1000])",
            (
                "@dataclass\nclass Point:\n    x: float\n    y: float\n\n\n"
                "rate = 2.0\n\n\ndef scaled(value):\n    return value * rate\n\n\n"
                "points = [Point(i, i / 2) for i in range(100)]"
            ),
            "\n".join(
                f"parameter_{i} = {('%d', '%d / 7', '[%d]', '{0: %d}', 'str(%d)')[i % 5] % i}" for i in range(300)
            ),
            "parameter_7 = -7",
            "scaled(3.0)",
            "prices.iloc[3, 3] = -1.0",
            "note = 'a new name'",
            "points[3].x = 9.5",
            "window[0] = 123.0",
            "by_user['user5']['score'] = -5.0",
            "customers.loc[17, 'city'] = 'Quito'",
            "axes.set_title('a title')",
            "parameter_299 = {'rate': rate, 'note': note}",
        ),
        setup=9,
        checks=(
            "parameter_7, parameter_296, parameter_299, note",
            "float(prices.to_numpy().sum())",
            "customers.iloc[17].to_dict(), len(customers), int(customers['age'].sum())",
            "float(matrix.sum()), float(series.sum()), int(pixels.sum())",
            "window[0], series[100]",
            "np.shares_memory(window, series)",
            "len(records), records[5], records[-1]",
            "by_user['user5'] is records[5]",
            "model.predict(prices.iloc[:20]).tolist()",
            "figure.axes[0] is axes and axes.get_title(), axes.lines[0] is lines[0]",
            "points[3], isinstance(points[3], Point)",
            # A function that came back must see the namespace as it is now.
            "[scaled(2.0), globals().update(rate=5.0), scaled(3.0), globals().update(rate=2.0)]",
        ),
    )


#: Small changes in the mixed notebook's namespace, as often as one likes: ``i`` makes each of them another one.
SMALL_CHANGES = (
    "parameter_7 = -{i}",
    "prices.iloc[{i}, 3] = -1.0",
    "scaled({i}.0)",
    "note = 'number {i}'",
    "points[3].x = {i}.5",
    "window[{i} % 100] = {i}.0",
    "by_user['user5']['score'] = -{i}.0",
    "customers.loc[{i}, 'city'] = 'Quito'",
    "axes.set_title('title {i}')",
    "parameter_299 = {{'rate': rate, 'note': {i}}}",
)


def columns(scale: float = 1.0) -> Notebook:
    """Return ten columns of 100 MB, each of them a block of its own in its frame, of which one changes."""
    rows = _count(_COLUMN, scale)
    return Notebook(
        "columns",
        (
            (
                "import numpy as np\nimport pandas as pd\n\nrng = np.random.default_rng(3)\n"
                f"frame = pd.DataFrame(index=pd.RangeIndex({rows}))"
            ),
            # Assigned one by one: pandas keeps a column as it was given until something makes it gather them.
            *(f"frame['c{i}'] = rng.random({rows})" for i in range(10)),
            "frame['c4'] = frame['c4'] * 2",
        ),
        setup=11,
    )


def column_bytes(scale: float) -> int:
    """Return the size of one of the columns."""
    return _count(_COLUMN, scale) * _FLOAT


#: Bytes of each new array.
ARRAY = 1_000_000


def arrays(scale: float = 1.0) -> Notebook:
    """Return fifty cells (fewer for a smaller scale), each of which makes an array of 1 MB."""
    return Notebook(
        "arrays",
        (
            "import numpy as np\n\nrng = np.random.default_rng(4)",
            *(f"array_{i} = rng.random({ARRAY // _FLOAT})" for i in range(_count(50, scale, 5))),
        ),
        setup=1,
    )


def _count(number: int, scale: float, least: int = 1) -> int:
    return max(least, int(number * scale))
