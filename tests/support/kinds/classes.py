"""Classes of every shape, and their instances."""

from __future__ import annotations

from .kind import Kind

KINDS: tuple[Kind, ...] = (
    Kind(
        "objects that are made with arguments",
        """
        class wna_Point:
            def __new__(cls, x, *, y):
                point = super().__new__(cls)
                point.x, point.y = x, y
                return point

        class wna_Named(wna_Point):
            __slots__ = ('name',)

            def __setstate__(self, state):
                attributes, slots = state
                self.__dict__.update(attributes)
                self.name = slots['name'].upper()

        wna_one, wna_two = wna_Point(1, y=2), wna_Named(3, y=4)
        wna_two.name = 'B'; wna_both = [wna_one, wna_two]
        """,
        "wna_one.x = 5",
        """
        assert (wna_one.x, wna_one.y, wna_two.x, wna_two.y, wna_two.name) == (5, 2, 3, 4, 'B')
        assert wna_both[0] is wna_one and wna_both[1] is wna_two and wna_Point(6, y=7).y == 7
        """,
    ),
    Kind(
        "class and instance",
        """
        class CiPoint:
            origin = (0, 0)

            def __init__(self, x):
                self.x = x

            def double(self):
                return self.x * ci_factor

        ci_factor = 2; ci_point = CiPoint(3)
        """,
        "ci_point.x = 5; ci_point.y = 'new'",
        """
        assert isinstance(ci_point, CiPoint) and type(ci_point) is CiPoint and vars(ci_point) == {'x': 5, 'y': 'new'}
        ci_factor = 10
        assert ci_point.double() == 50 and CiPoint(1).double() == 10 and CiPoint.__module__ == '__main__'
        """,
    ),
    Kind(
        "class whose method is replaced later",
        "class MpDog:\n    def speak(self):\n        return 'wuff'\n\nmp_dog = MpDog()",
        "MpDog.speak = lambda self: 'grr'; MpDog.legs = 4",
        """
        assert mp_dog.speak() == 'grr' and mp_dog.legs == 4 and isinstance(mp_dog, MpDog)
        MpDog.speak = lambda self: 'quiet'
        assert mp_dog.speak() == 'quiet'
        """,
    ),
    Kind(
        "instance changed, class saved long ago",
        "class IcBag:\n    def __init__(self):\n        self.items = []\n\nic_bag = IcBag()",
        "ic_bag.items.append(1); ic_other = IcBag()",
        """
        assert type(ic_bag) is type(ic_other) is IcBag and ic_bag.items == [1]
        IcBag.size = property(lambda self: len(self.items))
        assert ic_bag.size == 1 and ic_other.size == 0
        """,
    ),
    Kind(
        "class that counts its instances",
        """
        class CnItem:
            count = 0
            made = []

            def __init__(self):
                CnItem.count += 1
                type(self).made.append(self)

        cn_first = CnItem()
        """,
        "cn_second = CnItem()",
        """
        assert CnItem.count == 2 and CnItem.made[0] is cn_first and CnItem.made[1] is cn_second
        cn_third = CnItem()
        assert cn_second.count == 3 and cn_first.made[-1] is cn_third
        """,
    ),
    Kind(
        "class redefined while an old instance lives",
        "class RdThing:\n    def version(self):\n        return 1\n\nrd_old = RdThing(); rd_both = [rd_old]",
        "class RdThing:\n    def version(self):\n        return 2\n\nrd_new = RdThing(); rd_both.append(rd_new)",
        """
        assert rd_old.version() == 1 and rd_new.version() == 2
        assert isinstance(rd_new, RdThing) and not isinstance(rd_old, RdThing) and type(rd_old).__name__ == 'RdThing'
        assert type(rd_old)().version() == 1 and rd_both[0] is rd_old and rd_both[1] is rd_new
        """,
    ),
    Kind(
        "instance moved to a redefined class",
        "class MvThing:\n    kind = 'old'\n\nmv_thing = MvThing(); mv_thing.data = [1]",
        "class MvThing:\n    kind = 'new'\n\nmv_thing.__class__ = MvThing",
        "assert isinstance(mv_thing, MvThing) and mv_thing.kind == 'new' and mv_thing.data == [1]",
    ),
    Kind(
        "subclass in a later cell",
        """
        class ScBase:
            def __init__(self, n):
                self.n = n

            def name(self):
                return f'base {self.n}'

        sc_base = ScBase(1)
        """,
        """
        class ScChild(ScBase):
            def name(self):
                return 'child of ' + super().name()

        sc_child = ScChild(2)
        """,
        """
        assert sc_child.name() == 'child of base 2' and isinstance(sc_child, ScBase) and issubclass(ScChild, ScBase)
        ScBase.name = lambda self: 'patched'
        assert sc_child.name() == 'child of patched' and ScBase.__subclasses__() == [ScChild]
        """,
    ),
    Kind(
        "multiple inheritance with cooperative super",
        """
        class MiBase:
            def trail(self):
                return ['base']

        class MiLeft(MiBase):
            def trail(self):
                return ['left', *super().trail()]

        class MiRight(MiBase):
            def trail(self):
                return ['right', *super().trail()]
        """,
        """
        class MiBoth(MiLeft, MiRight):
            def trail(self):
                return ['both', *super().trail()]

        mi_both = MiBoth()
        """,
        """
        assert mi_both.trail() == ['both', 'left', 'right', 'base']
        assert MiBoth.__mro__ == (MiBoth, MiLeft, MiRight, MiBase, object)
        """,
    ),
    Kind(
        "mixin and __init_subclass__",
        """
        class IsPlugin:
            registry = {}

            def __init_subclass__(cls, /, tag=None, **kwargs):
                super().__init_subclass__(**kwargs)
                cls.tag = tag
                IsPlugin.registry[tag] = cls

        class IsOne(IsPlugin, tag='one'):
            pass
        """,
        "class IsTwo(IsPlugin, tag='two'):\n    pass",
        """
        assert IsPlugin.registry == {'one': IsOne, 'two': IsTwo} and IsTwo.tag == 'two'
        class IsThree(IsOne, tag='three'):
            pass
        assert list(IsPlugin.registry) == ['one', 'two', 'three'] and issubclass(IsThree, IsPlugin)
        """,
    ),
    Kind(
        "metaclass made in a cell",
        """
        class MtMeta(type):
            made = []

            def __new__(mcls, name, bases, space, **kwargs):
                cls = super().__new__(mcls, name, bases, space)
                mcls.made.append(name)
                return cls

            def __len__(cls):
                return cls.size

            @property
            def shout(cls):
                return cls.__name__.upper()

        class MtThing(metaclass=MtMeta):
            size = 3

        mt_thing = MtThing()
        """,
        "MtThing.size = 4",
        """
        assert len(MtThing) == 4 and MtThing.shout == 'MTTHING' and isinstance(MtThing, MtMeta)
        assert MtMeta.made == ['MtThing'] and isinstance(mt_thing, MtThing)
        class MtOther(MtThing):
            pass
        assert MtMeta.made == ['MtThing', 'MtOther'] and len(MtOther) == 4
        """,
    ),
    Kind(
        "slots",
        """
        class SlPoint:
            __slots__ = ('x', 'y', '__weakref__')

            def __init__(self, x):
                self.x = x

        class SlMore(SlPoint):
            __slots__ = ('z',)

        sl_point = SlPoint(1); sl_more = SlMore(2)
        """,
        "sl_point.y = [5]; sl_more.z = sl_point",
        """
        assert (sl_point.x, sl_point.y) == (1, [5]) and sl_more.z is sl_point and not hasattr(sl_more, 'y')
        try:
            sl_point.other = 1
        except AttributeError:
            sl_more.y = 6
        assert sl_more.y == 6 and not hasattr(sl_point, '__dict__')
        """,
    ),
    Kind(
        "property, classmethod and staticmethod",
        """
        class PcCircle:
            unit = 'm'

            def __init__(self, r):
                self._r = r

            @property
            def r(self):
                return self._r

            @r.setter
            def r(self, value):
                self._r = max(0, value)

            @classmethod
            def unit_circle(cls):
                return cls(1)

            @staticmethod
            def pi():
                return pc_pi

        pc_pi = 3; pc_circle = PcCircle.unit_circle()
        """,
        "pc_circle.r = -5; pc_make = PcCircle.unit_circle",
        """
        assert pc_circle.r == 0 and PcCircle.pi() == 3
        pc_circle.r = 2
        pc_pi = 3.14
        assert pc_circle.r == 2 and pc_circle.pi() == 3.14 and pc_make().r == 1 and isinstance(pc_make(), PcCircle)
        """,
    ),
    Kind(
        "descriptor with __set_name__",
        """
        class DsPositive:
            def __set_name__(self, owner, name):
                self.name = name

            def __get__(self, obj, owner=None):
                return self if obj is None else obj.__dict__[self.name]

            def __set__(self, obj, value):
                if value <= 0:
                    raise ValueError(self.name)
                obj.__dict__[self.name] = value

        class DsBox:
            width = DsPositive()

            def __init__(self, width):
                self.width = width

        ds_box = DsBox(1)
        """,
        "ds_box.width = 7",
        """
        assert ds_box.width == 7 and isinstance(DsBox.width, DsPositive) and DsBox.width.name == 'width'
        try:
            ds_box.width = -1
        except ValueError as ds_error:
            ds_what = ds_error.args
        assert ds_what == ('width',) and ds_box.width == 7
        """,
    ),
    Kind(
        "__getattr__ that recurses without its state",
        """
        class GaProxy:
            def __init__(self, inner):
                self._inner = inner

            def __getattr__(self, name):
                return getattr(self._inner, name)

        ga_proxy = GaProxy([3, 1])
        """,
        "ga_proxy.append(2)",
        """
        ga_proxy.sort()
        assert ga_proxy._inner == [1, 2, 3] and ga_proxy.count(1) == 1 and isinstance(ga_proxy, GaProxy)
        """,
    ),
    Kind(
        "__getattr__, __setattr__ and __delattr__ over a dict",
        """
        class GsRecord:
            def __init__(self):
                object.__setattr__(self, 'fields', {})

            def __getattr__(self, name):
                try:
                    return self.fields[name]
                except KeyError:
                    raise AttributeError(name) from None

            def __setattr__(self, name, value):
                self.fields[name] = value

            def __delattr__(self, name):
                del self.fields[name]

        gs_record = GsRecord(); gs_record.a = 1
        """,
        "gs_record.b = 2; del gs_record.a",
        """
        gs_record.c = 3
        assert gs_record.fields == {'b': 2, 'c': 3} and gs_record.b == 2 and not hasattr(gs_record, 'a')
        """,
    ),
    Kind(
        "__getattr__ that answers to everything",
        """
        class GeAny:
            def __init__(self):
                self.asked = 0

            def __getattr__(self, name):
                if name.startswith('__'):
                    raise AttributeError(name)
                return f'<{name}>'

        ge_any = GeAny()
        """,
        "ge_any.asked += 1",
        "assert ge_any.asked == 1 and ge_any.whatever == '<whatever>' and isinstance(ge_any, GeAny)",
    ),
    Kind(
        "__getstate__ and __setstate__",
        """
        class GtCache:
            def __init__(self):
                self.data, self.open = [1], lambda: 'cannot be kept'

            def __getstate__(self):
                return {'data': self.data}

            def __setstate__(self, state):
                self.__dict__.update(state, open=lambda: 'made anew')

        gt_cache = GtCache()
        """,
        "gt_cache.data.append(2)",
        """
        gt_cache.data.append(3)
        assert gt_cache.data == [1, 2, 3] and gt_cache.open() in {'cannot be kept', 'made anew'}
        """,
    ),
    Kind(
        "__reduce__ to a function of the notebook",
        """
        def rr_make(n):
            return RrThing(n)

        class RrThing:
            def __init__(self, n):
                self.n, self.log = n, []

            def __reduce__(self):
                return rr_make, (self.n,), {'log': self.log}

        rr_thing = RrThing(4)
        """,
        "rr_thing.log.append('changed')",
        """
        assert rr_thing.n == 4 and rr_thing.log == ['changed'] and isinstance(rr_thing, RrThing) and rr_make(5).n == 5
        """,
    ),
    Kind(
        "__reduce__ to a function that looks into a variable",
        """
        flw_table = {'m': 1.0, 'km': 1000.0}

        def flw_make(name):
            return FlwUnit(name, flw_table[name])

        class FlwUnit:
            def __init__(self, name, factor):
                self.name, self.factor = name, factor

            def __reduce__(self):
                return flw_make, (self.name,)

        flw_unit = flw_make('m')
        """,
        "flw_unit = flw_make('km'); flw_used = [flw_unit]",
        "assert flw_unit.factor == 1000 and flw_used[0] is flw_unit and flw_make('m').factor == 1",
    ),
    Kind(
        "__getnewargs_ex__",
        """
        class NwThing:
            def __new__(cls, a, *, b):
                self = super().__new__(cls)
                self.made = (a, b)
                return self

            def __getnewargs_ex__(self):
                return self.made[:1], {'b': self.made[1]}

        nw_thing = NwThing(1, b=2)
        """,
        "nw_thing.more = [3]",
        "assert nw_thing.made == (1, 2) and nw_thing.more == [3] and NwThing(5, b=6).made == (5, 6)",
    ),
    Kind(
        "abstract base class with a registered class",
        """
        import abc

        class AbShape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...

        class AbSquare(AbShape):
            def area(self):
                return 4

        class AbStranger:
            pass

        ab_square = AbSquare()
        """,
        "AbShape.register(AbStranger); ab_stranger = AbStranger()",
        """
        assert isinstance(ab_square, AbShape) and isinstance(ab_stranger, AbShape) and issubclass(AbStranger, AbShape)
        try:
            AbShape()
        except TypeError:
            ab_refused = True
        assert ab_refused and ab_square.area() == 4
        AbShape.register(complex)
        assert isinstance(1j, AbShape)
        """,
    ),
    Kind(
        "subclass of a collections.abc class",
        """
        from collections.abc import MutableMapping

        class CaMap(MutableMapping):
            def __init__(self):
                self.pairs = []

            def __getitem__(self, key):
                for k, v in self.pairs:
                    if k == key:
                        return v
                raise KeyError(key)

            def __setitem__(self, key, value):
                self.__delitem__(key)
                self.pairs.append((key, value))

            def __delitem__(self, key):
                self.pairs[:] = [p for p in self.pairs if p[0] != key]

            def __iter__(self):
                return (k for k, _ in self.pairs)

            def __len__(self):
                return len(self.pairs)

        ca_map = CaMap(); ca_map['a'] = 1
        """,
        "ca_map.update(b=2)",
        """
        assert dict(ca_map) == {'a': 1, 'b': 2} and isinstance(ca_map, MutableMapping)
        assert ca_map.pop('a') == 1 and list(ca_map.items()) == [('b', 2)]
        """,
    ),
    Kind(
        "dataclass with a default factory",
        """
        from dataclasses import dataclass, field

        @dataclass
        class DclTask:
            title: str
            tags: list[str] = field(default_factory=list)
            done: bool = field(default=False, repr=False)

        dcl_task = DclTask('a')
        """,
        "dcl_task.tags.append('x')",
        """
        import dataclasses
        assert dcl_task == DclTask('a', ['x']) and repr(dcl_task) == "DclTask(title='a', tags=['x'])"
        assert dataclasses.asdict(dcl_task) == {'title': 'a', 'tags': ['x'], 'done': False} and DclTask('b').tags == []
        assert [f.name for f in dataclasses.fields(DclTask)] == ['title', 'tags', 'done']
        """,
    ),
    Kind(
        "dataclass: frozen, slots, keyword-only, ordered",
        """
        import dataclasses

        @dataclasses.dataclass(frozen=True, slots=True, kw_only=True, order=True)
        class DfzKey:
            a: int
            b: str = 'x'

        dfz_key = DfzKey(a=1); dfz_map = {dfz_key: 'one'}
        """,
        "dfz_map[dataclasses.replace(dfz_key, a=2)] = 'two'",
        """
        assert dfz_map[DfzKey(a=2)] == 'two' and dfz_map[dfz_key] == 'one' and max(dfz_map).a == 2
        try:
            dfz_key.a = 9
        except dataclasses.FrozenInstanceError:
            dfz_refused = True
        assert dfz_refused and isinstance(dfz_key, DfzKey) and not hasattr(dfz_key, '__dict__')
        """,
    ),
    Kind(
        "dataclasses that inherit, with InitVar and ClassVar",
        """
        import dataclasses, typing

        @dataclasses.dataclass
        class DinBase:
            n: int
            scale: dataclasses.InitVar[int] = 1
            made: typing.ClassVar[list] = []

            def __post_init__(self, scale):
                self.n *= scale
                self.made.append(self)
        """,
        """
        @dataclasses.dataclass
        class DinChild(DinBase):
            m: int = dataclasses.field(default=0, compare=False)

        din_child = DinChild(2, 10, m=5)
        """,
        """
        assert din_child.n == 20 and DinBase.made == [din_child] and DinBase.made[0] is din_child
        assert DinChild(2, 10) == din_child
        assert [f.name for f in dataclasses.fields(DinChild)] == ['n', 'm'] and dataclasses.is_dataclass(DinChild)
        """,
    ),
    Kind(
        "cached_property",
        """
        import functools

        class CpData:
            computed = 0

            @functools.cached_property
            def total(self):
                CpData.computed += 1
                return [cp_base]

        cp_base = 1; cp_data = CpData()
        """,
        "cp_data.total.append(2)",
        """
        assert cp_data.total == [1, 2] and CpData.computed == 1
        del cp_data.total
        cp_base = 9
        assert cp_data.total == [9] and CpData.computed == 2
        """,
    ),
    Kind(
        "total_ordering, equality without a hash",
        """
        import functools

        @functools.total_ordering
        class ToVersion:
            def __init__(self, n):
                self.n = n

            def __eq__(self, other):
                return self.n == other.n

            def __lt__(self, other):
                return self.n < other.n

        to_all = [ToVersion(2), ToVersion(1)]
        """,
        "to_all.sort()",
        """
        assert [v.n for v in to_all] == [1, 2] and to_all[0] <= to_all[1] and to_all[1] == ToVersion(2)
        assert ToVersion.__hash__ is None and max(to_all).n == 2
        """,
    ),
    Kind(
        "objects as keys, by a hash of their own and by identity",
        """
        class OkKey:
            def __init__(self, n):
                self.n = n

            def __hash__(self):
                return hash(self.n)

            def __eq__(self, other):
                return self.n == other.n

        class OkPlain:
            pass

        ok_key = OkKey('a'); ok_plain = OkPlain(); ok_map = {ok_key: 1, ok_plain: 2}; ok_set = {ok_key, ok_plain}
        """,
        "ok_map[OkKey('b')] = 3",
        """
        assert ok_map[OkKey('a')] == 1 and ok_map[ok_plain] == 2 and ok_map[OkKey('b')] == 3
        assert ok_plain in ok_set and OkKey('a') in ok_set and OkPlain() not in ok_set
        """,
    ),
    Kind(
        "__del__",
        """
        class DlThing:
            def __init__(self, name):
                self.name = name

            def __del__(self):
                dl_log.append(self.name)

        dl_log = []; dl_thing = DlThing('first'); dl_other = DlThing('second')
        """,
        "del dl_thing",
        """
        assert dl_log == ['first']
        import gc
        del dl_other
        gc.collect()
        assert dl_log == ['first', 'second']
        """,
    ),
    Kind(
        "object that goes when its last variable goes",
        """
        import weakref

        class LgoThing:
            pass

        lgo_thing = LgoThing(); lgo_ref = weakref.ref(lgo_thing); lgo_other = LgoThing()
        lgo_more = weakref.ref(lgo_other)
        """,
        "lgo_thing.size = 1; del lgo_other",
        """
        assert lgo_more() is None and lgo_ref().size == 1
        del lgo_thing
        assert lgo_ref() is None
        """,
    ),
    Kind(
        "operators",
        """
        class OpVector:
            def __init__(self, *n):
                self.n = n

            def __add__(self, other):
                return OpVector(*(a + b for a, b in zip(self.n, other.n)))

            def __radd__(self, other):
                return self if other == 0 else NotImplemented

            def __iadd__(self, other):
                self.n = (self + other).n
                return self

            def __getitem__(self, i):
                return self.n[i]

            def __len__(self):
                return len(self.n)

            def __contains__(self, n):
                return n in self.n

            def __matmul__(self, other):
                return sum(a * b for a, b in zip(self.n, other.n))

        op_a = OpVector(1, 2); op_same = op_a
        """,
        "op_a += OpVector(10, 10)",
        """
        assert op_same is op_a and sum([op_a, OpVector(1, 1)]).n == (12, 13) and op_a @ OpVector(1, 1) == 23
        assert 11 in op_a and len(op_a) == 2 and list(op_a) == [11, 12]
        """,
    ),
    Kind(
        "callable instance with state",
        """
        class ClAverage:
            def __init__(self):
                self.seen = []

            def __call__(self, n):
                self.seen.append(n)
                return sum(self.seen) / len(self.seen)

        cl_average = ClAverage(); cl_average(1)
        """,
        "cl_average(3)",
        "assert cl_average(5) == 3 and cl_average.seen == [1, 3, 5] and callable(cl_average)",
    ),
    Kind(
        "iterator class in the middle",
        """
        class ItdDown:
            def __init__(self, n):
                self.n = n

            def __iter__(self):
                return self

            def __next__(self):
                if not self.n:
                    raise StopIteration
                self.n -= 1
                return self.n

        itd_down = ItdDown(4); next(itd_down)
        """,
        "next(itd_down)",
        "assert list(itd_down) == [1, 0] and list(ItdDown(2)) == [1, 0]",
    ),
    Kind(
        "context manager class",
        """
        class CtmTimer:
            def __enter__(self):
                ctm_log.append('in')
                return self

            def __exit__(self, *error):
                ctm_log.append(error[0])
                return True

        ctm_log = []; ctm_timer = CtmTimer()
        """,
        "with ctm_timer: pass",
        """
        with ctm_timer as ctm_same:
            raise KeyError
        assert ctm_log == ['in', None, 'in', KeyError] and ctm_same is ctm_timer
        """,
    ),
    Kind(
        "singleton",
        """
        class SnoOnly:
            _instance = None

            def __new__(cls):
                if cls._instance is None:
                    cls._instance = super().__new__(cls)
                    cls._instance.settings = {}
                return cls._instance

        sno_only = SnoOnly()
        """,
        "SnoOnly().settings['a'] = 1",
        """
        assert SnoOnly() is sno_only and sno_only.settings == {'a': 1} and SnoOnly._instance is sno_only
        SnoOnly().settings['b'] = 2
        assert sno_only.settings['b'] == 2
        """,
    ),
    Kind(
        "class that refers to an instance of itself",
        """
        class RfNode:
            def __init__(self, next):
                self.next = next

        RfNode.end = RfNode(None)
        rf_list = RfNode(RfNode(RfNode.end))
        """,
        "RfNode.end.mark = 'end'",
        """
        assert rf_list.next.next is RfNode.end
        assert rf_list.next.next.mark == 'end' and isinstance(RfNode.end.end, RfNode)
        """,
    ),
    Kind(
        "nested classes",
        """
        class NsOuter:
            class Inner:
                class Deep:
                    value = 1

                def outer(self):
                    return NsOuter

        ns_deep = NsOuter.Inner.Deep(); ns_inner = NsOuter.Inner()
        """,
        "NsOuter.Inner.Deep.value = 2",
        """
        assert ns_deep.value == 2 and ns_inner.outer() is NsOuter and type(ns_deep) is NsOuter.Inner.Deep
        assert NsOuter.Inner.Deep.__qualname__ == 'NsOuter.Inner.Deep'
        """,
    ),
    Kind(
        "class made by a function, over its variables",
        """
        def cf_make(label):
            class CfLocal:
                def __init__(self):
                    self.seen = []

                def tell(self):
                    return label, __class__.__name__
            return CfLocal

        CfA = cf_make('a'); CfB = cf_make('b'); cf_a = CfA()
        """,
        "cf_b = CfB()",
        """
        assert cf_a.tell() == ('a', 'CfLocal') and cf_b.tell() == ('b', 'CfLocal')
        assert isinstance(cf_a, CfA) and not isinstance(cf_a, CfB) and type(cf_b) is CfB
        """,
    ),
    Kind(
        "class of which only the instance is held",
        """
        def oi_make():
            class OiHidden:
                level = 1
                def up(self):
                    type(self).level += 1
            return OiHidden()

        oi_thing = oi_make()
        """,
        "oi_thing.up(); oi_twin = type(oi_thing)()",
        """
        assert oi_thing.level == 2 and oi_twin.level == 2 and type(oi_thing) is type(oi_twin)
        oi_twin.up()
        assert oi_thing.level == 3
        """,
    ),
    Kind(
        "class made by type()",
        """
        TyMade = type('TyMade', (list,), {'double': lambda self: [n * ty_by for n in self]}); ty_by = 2
        ty_made = TyMade([1])
        """,
        "ty_made.append(2)",
        """
        assert ty_made.double() == [2, 4]
        ty_by = 3
        assert TyMade([5]).double() == [15] and isinstance(ty_made, TyMade)
        """,
    ),
    Kind(
        "generic class, old style",
        """
        import typing
        GcT = typing.TypeVar('GcT')

        class GcStack(typing.Generic[GcT]):
            def __init__(self):
                self.items: list[GcT] = []

            def push(self, item: GcT):
                self.items.append(item)

        gc_stack = GcStack[int]()
        """,
        "gc_stack.push(1); gc_alias = GcStack[str]",
        """
        gc_stack.push(2)
        assert gc_stack.items == [1, 2] and isinstance(gc_stack, GcStack) and gc_alias.__origin__ is GcStack
        assert isinstance(gc_alias(), GcStack) and GcStack.__parameters__ == (GcT,)
        """,
    ),
    Kind(
        "generic class and function, new style",
        """
        class GnBox[T]:
            def __init__(self, item: T):
                self.item = item

            def get(self) -> T:
                return self.item

        def gn_first[T](items: list[T]) -> T:
            return items[0]

        gn_box = GnBox[int](5)
        """,
        "gn_box.item = gn_first([6, 7])",
        """
        assert gn_box.get() == 6 and isinstance(gn_box, GnBox) and GnBox[str]('x').get() == 'x'
        assert GnBox.__type_params__[0].__name__ == 'T' and gn_first.__type_params__[0].__name__ == 'T'
        """,
    ),
    Kind(
        "subclass of a class of the library",
        """
        import threading, logging

        class LbHandler(logging.Handler):
            def __init__(self):
                super().__init__()
                self.lines = []

            def emit(self, record):
                self.lines.append(self.format(record))

        lb_handler = LbHandler(); lb_handler.handle(logging.makeLogRecord({'msg': 'one'}))
        """,
        "lb_handler.setFormatter(logging.Formatter('> %(message)s'))",
        """
        lb_handler.handle(logging.makeLogRecord({'msg': 'two'}))
        assert lb_handler.lines == ['one', '> two'] and isinstance(lb_handler, logging.Handler)
        """,
    ),
    Kind(
        "class with private names and class-level lambdas",
        """
        class PvSafe:
            __count = 0
            rules = {'positive': lambda n: n > pv_limit}

            def check(self, n):
                PvSafe.__count += 1
                return self.rules['positive'](n)

            @classmethod
            def checked(cls):
                return cls.__count

        pv_limit = 0; pv_safe = PvSafe()
        """,
        "pv_safe.check(1); pv_limit = 5",
        "assert not pv_safe.check(1) and PvSafe.checked() == 2\npv_limit = 0\nassert pv_safe.check(1)",
    ),
    Kind(
        "partialmethod and singledispatchmethod",
        """
        import functools

        class PmCell:
            def set(self, value):
                self.value = value

            on = functools.partialmethod(set, True)

            @functools.singledispatchmethod
            def show(self, arg):
                return 'any'

            @show.register
            def _(self, arg: int):
                return 'int'

        pm_cell = PmCell()
        """,
        "pm_cell.on()",
        "assert pm_cell.value is True and pm_cell.show(1) == 'int' and pm_cell.show('') == 'any'",
    ),
    Kind(
        "method bound to one instance",
        """
        import types

        class MbRobot:
            def act(self):
                return 'walk'

        mb_one = MbRobot(); mb_two = MbRobot()
        """,
        "mb_one.act = types.MethodType(lambda self: ('fly', self), mb_one)",
        "assert mb_one.act() == ('fly', mb_one) and mb_one.act()[1] is mb_one and mb_two.act() == 'walk'",
    ),
    Kind(
        "observers that refer to each other",
        """
        class ObSource:
            def __init__(self):
                self.listeners = []

            def fire(self, what):
                for listener in self.listeners:
                    listener(what)

        class ObSink:
            def __init__(self, source):
                self.heard, self.source = [], source
                source.listeners.append(self.hear)

            def hear(self, what):
                self.heard.append((what, len(self.source.listeners)))

        ob_source = ObSource(); ob_sink = ObSink(ob_source)
        """,
        "ob_late = ObSink(ob_source); ob_source.fire('a')",
        """
        ob_source.fire('b')
        assert ob_sink.heard == ob_late.heard == [('a', 2), ('b', 2)] and ob_late.source is ob_source
        """,
    ),
    Kind(
        "class decorator that changes and registers",
        """
        ck_all = {}

        def ck_register(cls):
            ck_all[cls.__name__] = cls
            cls.registered = True
            return cls

        @ck_register
        class CkOne:
            pass
        """,
        "@ck_register\nclass CkTwo(CkOne):\n    pass",
        """
        assert ck_all == {'CkOne': CkOne, 'CkTwo': CkTwo} and isinstance(ck_all['CkTwo'](), CkOne) and CkTwo.registered
        """,
    ),
    Kind(
        "classes that refer to each other",
        """
        class RelOrder:
            pass

        class RelItem:
            order_class = RelOrder

        RelOrder.item_class = RelItem
        rel_order = RelOrder()
        """,
        "RelItem.price = 5; rel_item = RelItem()",
        """
        assert rel_order.item_class is RelItem and rel_item.order_class is RelOrder and RelItem.price == 5
        assert isinstance(rel_order.item_class(), RelItem) and isinstance(rel_item.order_class(), RelOrder)
        """,
    ),
    Kind(
        "dict and list subclasses that count on their attributes",
        """
        class AtDict(dict):
            def __init__(self, log):
                self.log = log

            def __setitem__(self, key, value):
                self.log.append(key)
                super().__setitem__(key, value)

        class AtList(list):
            def __init__(self, limit):
                self.limit = limit

            def append(self, item):
                if len(self) < self.limit:
                    super().append(item)

            extend = None

        at_log = []; at_dict = AtDict(at_log); at_dict['a'] = 1; at_list = AtList(2); at_list.append(1)
        """,
        "at_dict['b'] = 2; at_list.append(2); at_list.append(3)",
        """
        assert at_dict == {'a': 1, 'b': 2} and at_log == ['a', 'b'] and at_list == [1, 2] and at_list.limit == 2
        at_dict['c'] = 3; at_list.append(4)
        assert at_log == ['a', 'b', 'c'] and at_dict.log is at_log and at_list == [1, 2]
        """,
    ),
    Kind(
        "exception class with arguments of its own, caught twice",
        """
        class ExcQuota(OSError):
            def __init__(self, user, *, limit):
                super().__init__(5, f'{user} is over {limit}')
                self.user, self.limit = user, limit

        try:
            try:
                int('x')
            except ValueError:
                raise ExcQuota('ann', limit=3)
        except ExcQuota as exc_caught:
            exc_error = exc_caught
        """,
        "exc_error.limit = 4; exc_all = [exc_error, ExcQuota('bob', limit=1)]",
        """
        assert exc_error.limit == 4 and exc_error.errno == 5 and exc_error.args == (5, 'ann is over 3')
        assert isinstance(exc_error.__context__, ValueError) and exc_all[0] is exc_error and exc_all[1].user == 'bob'
        assert isinstance(exc_error, ExcQuota) and not exc_error.__suppress_context__ and exc_error.__cause__ is None
        """,
    ),
)
