"""Libraries that need no adapter, and properties of types that no adapter has a field for. Data only."""

from __future__ import annotations

#: Top-level modules that belong to another library, whose adapter is for them, too.
PARTS_OF = {"ipykernel": "IPython", "mpl_toolkits": "matplotlib", "pylab": "matplotlib"}

#: Libraries that keep no object of their callers, or return it only as part of an object of their own.
RETAIN_NOTHING = frozenset(
    "PIL anndata attr attrs bs4 catboost cloudpickle cv2 cycler dask dateutil dill fsspec geopandas h5py httpx "
    "imageio jax joblib keras lightgbm lxml msgpack narwhals networkx numba numexpr openpyxl orjson packaging "
    "patsy psutil pydantic pydantic_core pytz regex requests rich scipy shapely six skimage "
    "sklearn spacy statsmodels sympy tabulate tensorflow tokenizers torchvision tqdm transformers "
    "typing_extensions tzdata urllib3 xarray xgboost xlrd xxhash yaml zstandard".split()
)

#: Libraries that keep objects of their own types (figures, axes), and change only these. Some have an adapter.
RETAIN_THEIR_OWN = frozenset("altair bokeh ipywidgets matplotlib mpl_toolkits plotly pylab seaborn".split())

#: Roots of types that cannot be saved, and that hold nothing of the notebook.
INERT = frozenset(
    "_io _socket _sqlite3 _thread aiohttp asyncpg boto3 botocore duckdb httpx io openai paramiko psycopg psycopg2 "
    "pymongo pymysql redis requests select socket sqlalchemy sqlite3 ssl subprocess tarfile threading zipfile "
    "zmq".split()
)

#: Beginnings of names of modules whose objects cannot be changed, or are identified by their names: whether two
#: variables share one makes no difference.
IMMUTABLE_MODULES = (
    "datetime",
    "decimal",
    "fractions",
    "uuid",
    "pathlib",
    "re",
    "zoneinfo",
    "ipaddress",
    "operator",
    "dataclasses",
    "numpy.dtypes",
    "pyarrow.",
    "pandas._libs.tslibs",
    "pandas.core.dtypes",
    "pandas.core.indexes",
    "pandas.core.arrays",
    "polars.datatypes",
)

#: Modules of which only objects of these types can be changed.
MUTABLE_TYPES = {"numpy": frozenset({"ndarray", "recarray", "matrix", "MaskedArray"})}
