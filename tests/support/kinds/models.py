"""Models: of scikit-learn, fitted, and of pydantic and attrs, defined in cells."""

from __future__ import annotations

from .kind import Kind

_SKLEARN = ("numpy", "sklearn")
_PYDANTIC = ("pydantic",)

KINDS: tuple[Kind, ...] = (
    Kind(
        "fitted pipeline, and its step in a variable",
        """
        import numpy as np
        from sklearn.linear_model import LinearRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        skp_x = np.arange(10.0).reshape(-1, 1); skp_scaler = StandardScaler()
        skp_pipe = make_pipeline(skp_scaler, LinearRegression()).fit(skp_x, 3 * skp_x[:, 0] + 1)
        """,
        "skp_pipe.fit(skp_x, 5 * skp_x[:, 0])",
        """
        assert abs(skp_pipe.predict([[2.0]])[0] - 10) < 1e-9 and skp_pipe.named_steps['standardscaler'] is skp_scaler
        skp_scaler.mean_ = skp_scaler.mean_ + 1
        assert abs(skp_pipe.predict([[3.0]])[0] - 10) < 1e-9
        """,
        _SKLEARN,
    ),
    Kind(
        "random forest",
        """
        import numpy as np
        from sklearn.ensemble import RandomForestClassifier
        skf_x = np.arange(40.0).reshape(-1, 2); skf_y = (skf_x[:, 0] > 20).astype(int)
        skf_forest = RandomForestClassifier(5, random_state=1, warm_start=True).fit(skf_x, skf_y)
        """,
        "skf_forest.set_params(n_estimators=8).fit(skf_x, skf_y); skf_before = skf_forest.predict_proba(skf_x)",
        """
        assert len(skf_forest.estimators_) == 8 and (skf_forest.predict_proba(skf_x) == skf_before).all()
        assert skf_forest.estimators_[0].tree_.node_count >= 3 and skf_forest.feature_importances_.shape == (2,)
        skf_forest.set_params(n_estimators=9).fit(skf_x, skf_y)
        assert len(skf_forest.estimators_) == 9
        """,
        _SKLEARN,
    ),
    Kind(
        "clusters and neighbours",
        """
        import numpy as np
        from sklearn.cluster import KMeans
        from sklearn.neighbors import KNeighborsClassifier
        skk_x = np.array([[0.0], [0.1], [5.0], [5.1]]); skk_means = KMeans(2, n_init=1, random_state=0).fit(skk_x)
        """,
        "skk_near = KNeighborsClassifier(1).fit(skk_x, skk_means.labels_)",
        """
        assert sorted(skk_means.cluster_centers_.ravel().round(2)) == [0.05, 5.05]
        assert skk_near.predict([[4.9]])[0] == skk_means.predict([[5.2]])[0] != skk_means.predict([[0.0]])[0]
        """,
        _SKLEARN,
    ),
    Kind(
        "vectorizer with a tokenizer of the notebook",
        """
        from sklearn.feature_extraction.text import CountVectorizer

        def skv_words(text):
            return [word for word in text.split(skv_mark) if word]

        skv_mark = ' '; skv_counts = CountVectorizer(tokenizer=skv_words, token_pattern=None).fit(['a bb', 'bb ccc'])
        """,
        "skv_mark = '-'",
        """
        assert skv_counts.transform(['bb-bb-a']).toarray().tolist() == [[1, 2, 0]]
        skv_mark = '+'
        assert skv_counts.transform(['a+ccc']).toarray().tolist() == [[1, 0, 1]] and 'bb' in skv_counts.vocabulary_
        """,
        _SKLEARN,
    ),
    Kind(
        "transformer that a cell defines",
        """
        import numpy as np
        from sklearn.base import BaseEstimator, TransformerMixin, clone
        from sklearn.pipeline import Pipeline

        class SktShift(BaseEstimator, TransformerMixin):
            def __init__(self, by=1.0):
                self.by = by

            def fit(self, x, y=None):
                self.low_ = x.min()
                return self

            def transform(self, x):
                return x - self.low_ + self.by

        skt_pipe = Pipeline([('shift', SktShift(2.0))]).fit(np.array([[3.0], [4.0]]))
        """,
        "skt_pipe.set_params(shift__by=10.0)",
        """
        assert skt_pipe.transform(np.array([[3.0]])).tolist() == [[10.0]] and isinstance(skt_pipe['shift'], SktShift)
        assert clone(skt_pipe).get_params()['shift__by'] == 10.0
        SktShift.transform = lambda self, x: x * 0
        assert skt_pipe.transform(np.ones((1, 1))).tolist() == [[0.0]]
        """,
        _SKLEARN,
    ),
    Kind(
        "search over parameters",
        """
        import numpy as np
        from sklearn.linear_model import Ridge
        from sklearn.model_selection import GridSearchCV, KFold
        skg_x = np.arange(20.0).reshape(-1, 1)
        skg_search = GridSearchCV(Ridge(), {'alpha': [0.1, 1000.0]}, cv=KFold(2))
        """,
        "skg_search.fit(skg_x, skg_x[:, 0] * 2)",
        """
        assert skg_search.best_params_ == {'alpha': 0.1} and abs(skg_search.predict([[1.0]])[0] - 2) < 0.1
        assert len(skg_search.cv_results_['params']) == 2 and skg_search.best_estimator_.alpha == 0.1
        """,
        _SKLEARN,
    ),
    Kind(
        "model that learns bit by bit",
        """
        import numpy as np
        from sklearn.linear_model import SGDClassifier
        sks_model = SGDClassifier(random_state=0); sks_best = {'model': sks_model}
        sks_model.partial_fit([[0.0], [1.0]], [0, 1], classes=[0, 1])
        """,
        "sks_before = sks_model.coef_.copy(); sks_best['model'].partial_fit([[3.0]] * 5, [1] * 5)",
        """
        assert sks_best['model'] is sks_model and not np.array_equal(sks_before, sks_model.coef_) and sks_model.t_ == 8
        sks_model.partial_fit([[0.0]], [0])
        assert sks_best['model'].t_ == 9
        """,
        _SKLEARN,
    ),
    Kind(
        "transformer of columns, with a function of the notebook",
        """
        import pandas as pd
        from sklearn.compose import ColumnTransformer
        from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
        skc_add = 1; skc_frame = pd.DataFrame({'n': [1.0, 2.0], 'c': ['x', 'y']})
        skc_shift = FunctionTransformer(lambda x: x + skc_add)
        skc_columns = ColumnTransformer([('f', skc_shift, ['n']), ('c', OneHotEncoder(), ['c'])])
        """,
        "skc_columns.fit(skc_frame); skc_add = 100",
        """
        assert skc_columns.transform(skc_frame)[:, 0].tolist() == [101, 102]
        skc_add = 0
        assert skc_columns.transform(skc_frame).tolist() == [[1, 1, 0], [2, 0, 1]]
        """,
        ("pandas", "sklearn"),
    ),
    Kind(
        "pydantic model",
        """
        import pydantic

        class PyuUser(pydantic.BaseModel):
            name: str
            tags: list[str] = []
            age: int = pydantic.Field(0, ge=0)

        pyu_user = PyuUser(name='a'); pyu_same = pyu_user
        """,
        "pyu_user.tags.append('x'); pyu_user.age = 5",
        """
        assert isinstance(pyu_user, PyuUser) and pyu_same is pyu_user
        assert pyu_user == PyuUser(name='a', tags=['x'], age=5)
        assert pyu_user.model_fields_set >= {'name', 'age'} and PyuUser(name='b').tags == []
        try:
            PyuUser(name='c', age=-1)
        except pydantic.ValidationError as pyu_error:
            pyu_count = pyu_error.error_count()
        assert pyu_count == 1
        assert PyuUser.model_validate_json('{"name": "d"}').model_dump() == {'name': 'd', 'tags': [], 'age': 0}
        """,
        _PYDANTIC,
    ),
    Kind(
        "pydantic validators and computed fields",
        """
        import pydantic

        class PyvOrder(pydantic.BaseModel):
            model_config = pydantic.ConfigDict(validate_assignment=True)
            count: int
            price: float = 1.0

            @pydantic.field_validator('count')
            @classmethod
            def below_limit(cls, value):
                if value > pyv_limit:
                    raise ValueError('too many')
                return value

            @pydantic.model_validator(mode='after')
            def seen(self):
                pyv_seen.append(self.count)
                return self

            @pydantic.computed_field
            @property
            def total(self) -> float:
                return self.count * self.price

        pyv_limit = 10; pyv_seen = []; pyv_order = PyvOrder(count=2)
        """,
        "pyv_order.price = 3; pyv_limit = 5",
        """
        assert pyv_order.total == 6 and pyv_order.model_dump() == {'count': 2, 'price': 3, 'total': 6}
        assert pyv_seen == [2, 2]
        try:
            pyv_order.count = 7
        except pydantic.ValidationError as pyv_error:
            pyv_what = pyv_error.errors()[0]['msg']
        assert 'too many' in pyv_what and pyv_order.count == 2
        pyv_limit = 100
        assert PyvOrder(count=50).total == 50 and pyv_seen[-1] == 50
        """,
        _PYDANTIC,
    ),
    Kind(
        "pydantic models in each other, from different cells",
        """
        import datetime, enum, pydantic

        class PynColor(enum.Enum):
            RED = 'red'
            BLUE = 'blue'

        class PynPart(pydantic.BaseModel):
            color: PynColor
            made: datetime.date
        """,
        """
        class PynCar(pydantic.BaseModel):
            parts: dict[str, PynPart]
            twin: 'PynCar | None' = None

        pyn_part = PynPart(color='red', made='2024-02-29'); pyn_car = PynCar(parts={'door': pyn_part})
        pyn_car.twin = PynCar(parts={})
        """,
        """
        assert pyn_car.parts['door'].color is PynColor.RED and isinstance(pyn_car.twin, PynCar)
        assert isinstance(pyn_car.parts['door'], PynPart) and pyn_part.made.month == 2
        pyn_read = PynCar.model_validate_json(pyn_car.model_dump_json())
        assert pyn_read == pyn_car and pyn_read.parts['door'] == pyn_part
        assert 'PynPart' in PynCar.model_json_schema()['$defs']
        """,
        _PYDANTIC,
    ),
    Kind(
        "generic, inherited and root models of pydantic",
        """
        import typing, pydantic
        PygT = typing.TypeVar('PygT')

        class PygBox(pydantic.BaseModel, typing.Generic[PygT]):
            item: PygT
            _secret: int = pydantic.PrivateAttr(0)

        class PygNames(pydantic.RootModel[list[str]]):
            pass

        pyg_box = PygBox[int](item='5'); pyg_names = PygNames(['a'])
        """,
        """
        class PygNamed(PygBox[str]):
            name: str = 'n'

        pyg_box._secret = 7; pyg_names.root.append('b'); pyg_named = PygNamed(item='i')
        """,
        """
        assert pyg_box.item == 5 and pyg_box._secret == 7 and isinstance(pyg_box, PygBox)
        assert pyg_names.root == ['a', 'b']
        assert isinstance(pyg_named, PygNamed) and pyg_named.model_dump() == {'item': 'i', 'name': 'n'}
        assert PygBox[int](item='6').item == 6 and type(pyg_box)(item='7').item == 7 and issubclass(PygNamed, PygBox)
        """,
        _PYDANTIC,
    ),
    Kind(
        "pydantic: made by functions, adapters and dataclasses",
        """
        import pydantic, pydantic.dataclasses
        PyaMade = pydantic.create_model('PyaMade', n=(int, 3)); pya_adapter = pydantic.TypeAdapter(dict[str, list[int]])

        @pydantic.dataclasses.dataclass
        class PyaPoint:
            x: int
            y: int = 0

        @pydantic.validate_call
        def pya_double(n: int) -> int:
            return n * 2
        """,
        "pya_made = PyaMade(n='4'); pya_point = PyaPoint('5')",
        """
        assert pya_made.n == 4 and isinstance(pya_made, PyaMade) and PyaMade().n == 3 and pya_point.x == 5
        assert pya_adapter.validate_python({'a': ['1']}) == {'a': [1]} and PyaPoint('7', 1) == PyaPoint(7, 1)
        assert pya_double('4') == 8
        """,
        _PYDANTIC,
    ),
    Kind(
        "pydantic: discriminated union, frozen, aliases",
        """
        import typing, pydantic

        class PydCat(pydantic.BaseModel, frozen=True):
            kind: typing.Literal['cat'] = 'cat'
            lives: int = pydantic.Field(9, alias='livesLeft')

        class PydDog(pydantic.BaseModel):
            kind: typing.Literal['dog'] = 'dog'

        class PydHome(pydantic.BaseModel):
            pet: PydCat | PydDog = pydantic.Field(discriminator='kind')

        pyd_home = PydHome(pet={'kind': 'cat', 'livesLeft': 3})
        """,
        "pyd_dog = PydHome(pet={'kind': 'dog'}); pyd_map = {pyd_home.pet: 'tom'}",
        """
        assert pyd_home.pet == PydCat(livesLeft=3) and pyd_map[PydCat(livesLeft=3)] == 'tom'
        assert isinstance(pyd_dog.pet, PydDog)
        assert pyd_home.model_dump(by_alias=True) == {'pet': {'kind': 'cat', 'livesLeft': 3}}
        try:
            pyd_home.pet.lives = 1
        except pydantic.ValidationError:
            pyd_refused = True
        assert pyd_refused
        """,
        _PYDANTIC,
    ),
    Kind(
        "classes of attrs",
        """
        import attrs

        @attrs.define
        class AtrPoint:
            x: int = attrs.field(validator=attrs.validators.instance_of(int))
            tags: list = attrs.Factory(list)

        @attrs.frozen(order=True)
        class AtrKey:
            n: int

        atr_point = AtrPoint(1); atr_map = {AtrKey(1): 'one'}
        """,
        "atr_point.tags.append('t'); atr_map[AtrKey(2)] = 'two'",
        """
        assert atr_point == AtrPoint(1, ['t']) and atr_map[AtrKey(2)] == 'two' and AtrKey(1) < AtrKey(2)
        assert [a.name for a in attrs.fields(AtrPoint)] == ['x', 'tags']
        assert attrs.asdict(atr_point) == {'x': 1, 'tags': ['t']}
        try:
            AtrPoint('no')
        except TypeError:
            atr_refused = True
        assert atr_refused and isinstance(attrs.evolve(atr_point, x=5), AtrPoint)
        """,
        ("attrs",),
    ),
)
