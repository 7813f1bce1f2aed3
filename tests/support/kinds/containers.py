"""Containers of the language and of the standard library."""

from __future__ import annotations

from .kind import Kind

KINDS: tuple[Kind, ...] = (
    Kind(
        "list of plain values",
        "pl_list = [1, 2.5, 'three', None, True, b'six']",
        "pl_list[2] = 'drei'; pl_list.append(...)",
        """
        assert pl_list == [1, 2.5, 'drei', None, True, b'six', ...]
        pl_list.pop()
        assert len(pl_list) == 6 and pl_list[4] is True
        """,
    ),
    Kind(
        "dict in its order",
        "dor_dict = {'b': 1, 'a': 2, (3, 'c'): [3]}",
        "dor_dict['b'] = dor_dict.pop('b') + 10; dor_dict[(3, 'c')].append(4)",
        """
        assert list(dor_dict.items()) == [('a', 2), ((3, 'c'), [3, 4]), ('b', 11)]
        dor_dict['z'] = 0
        assert list(dor_dict)[-1] == 'z'
        """,
    ),
    Kind(
        "set and frozenset",
        "sf_set = {1, 'two', (3,)}; sf_frozen = frozenset({1, 2})",
        "sf_set.discard('two'); sf_frozen |= {3}",
        """
        assert sf_set == {1, (3,)} and sf_frozen == {1, 2, 3}
        sf_set.add(sf_frozen)
        assert frozenset({3, 2, 1}) in sf_set
        """,
    ),
    Kind(
        "nested containers",
        "nc_tree = {'rows': [{'cells': [(1, [2, {3}])]}]}",
        "nc_tree['rows'][0]['cells'][0][1][1].add(4)",
        """
        assert nc_tree == {'rows': [{'cells': [(1, [2, {3, 4}])]}]}
        nc_tree['rows'].append({})
        assert len(nc_tree['rows']) == 2
        """,
    ),
    Kind(
        "list nested 400 deep",
        """
        dn_deep = []
        for dn_level in range(400):
            dn_deep = [dn_deep]
        """,
        """
        dn_inner = dn_deep
        while dn_inner:
            dn_inner = dn_inner[0]
        dn_name = "the innermost list is a variable of its own"
        dn_deep.append('outer')
        """,
        """
        dn_walk, dn_depth = dn_deep, 0
        while dn_walk:
            dn_walk, dn_depth = dn_walk[0], dn_depth + 1
        assert dn_depth == 400 and dn_deep[1] == 'outer'
        assert dn_walk is dn_inner
        """,
    ),
    Kind(
        "list that contains itself",
        "ls_self = [1]; ls_self.append(ls_self)",
        "ls_self[0] = 2",
        """
        assert ls_self[1] is ls_self and ls_self[1][1][0] == 2
        ls_self.append(3)
        assert ls_self[1][2] == 3
        """,
    ),
    Kind(
        "tree whose nodes know their parents",
        "tp_root = {'parent': None, 'children': []}; tp_root['children'].append({'parent': tp_root, 'children': []})",
        """
        tp_leaf = {'parent': tp_root['children'][0], 'children': []}; tp_root['children'][0]['children'].append(tp_leaf)
        """,
        """
        assert tp_leaf['parent']['parent'] is tp_root
        assert tp_root['children'][0]['children'][0] is tp_leaf
        tp_leaf['parent']['mark'] = 1
        assert tp_root['children'][0]['mark'] == 1
        """,
    ),
    Kind(
        "tuple that holds a list, and itself through it",
        "tsl_list = []; tsl_tuple = (1, tsl_list); tsl_list.append(tsl_tuple)",
        "tsl_list.append('more')",
        """
        assert tsl_tuple[1] is tsl_list and tsl_list[0] is tsl_tuple and tsl_list[1] == 'more'
        tsl_tuple[1].append(5)
        assert tsl_list[-1] == 5
        """,
    ),
    Kind(
        "deque with maxlen",
        "from collections import deque\ndq_recent = deque([1, 2], maxlen=3)",
        "dq_recent.extend([3, 4])",
        """
        assert dq_recent == deque([2, 3, 4]) and dq_recent.maxlen == 3
        dq_recent.append(5)
        assert list(dq_recent) == [3, 4, 5]
        """,
    ),
    Kind(
        "OrderedDict",
        "from collections import OrderedDict\nod_map = OrderedDict(a=1, b=2, c=3)",
        "od_map.move_to_end('a')",
        """
        assert isinstance(od_map, OrderedDict) and list(od_map) == ['b', 'c', 'a']
        od_map.move_to_end('c', last=False)
        assert od_map.popitem() == ('a', 1) and od_map != OrderedDict(b=2, c=3)
        """,
    ),
    Kind(
        "defaultdict with a lambda as its factory",
        "from collections import defaultdict\ndd_step = 1\ndd_map = defaultdict(lambda: [dd_step])",
        "dd_map['a'].append(2); dd_step = 7",
        """
        assert dd_map == {'a': [1, 2]}
        assert dd_map['b'] == [7]
        dd_step = 8
        assert dd_map['c'] == [8]
        """,
    ),
    Kind(
        "defaultdict of defaultdicts",
        """
        from collections import defaultdict

        def ddt_tree():
            return defaultdict(ddt_tree)

        ddt_root = ddt_tree()
        ddt_root['a']['b']['c'] = 1
        """,
        "ddt_root['a']['x']['y'] = 2",
        """
        assert ddt_root['a']['b']['c'] == 1 and ddt_root['a']['x']['y'] == 2
        ddt_root['new']['levels']['appear'] = 3
        assert isinstance(ddt_root['new']['levels'], defaultdict) and ddt_root.default_factory is ddt_tree
        """,
    ),
    Kind(
        "Counter",
        "from collections import Counter\ncou_words = Counter('abracadabra')",
        "cou_words.update('zzzzzzz')",
        """
        assert cou_words.most_common(2) == [('z', 7), ('a', 5)] and cou_words['missing'] == 0
        cou_words -= Counter(z=6)
        assert cou_words['z'] == 1
        """,
    ),
    Kind(
        "ChainMap over two variables",
        "from collections import ChainMap\ncm_low = {'a': 1, 'b': 2}; cm_high = {}\ncm_map = ChainMap(cm_high, cm_low)",
        "cm_map['a'] = 10; cm_low['c'] = 3",
        """
        assert cm_high == {'a': 10} and cm_map['a'] == 10 and cm_map['c'] == 3
        cm_low['d'] = 4
        cm_map['e'] = 5
        assert cm_map['d'] == 4 and cm_high['e'] == 5 and cm_map.maps[1] is cm_low
        """,
    ),
    Kind(
        "namedtuple made in a cell",
        """
        from collections import namedtuple
        NtPoint = namedtuple('NtPoint', 'x y', defaults=[0])
        nt_point = NtPoint(1)
        """,
        "nt_point = nt_point._replace(y=5)",
        """
        assert nt_point == (1, 5) and isinstance(nt_point, NtPoint) and nt_point.y == 5
        assert NtPoint(7)._asdict() == {'x': 7, 'y': 0} and repr(nt_point) == 'NtPoint(x=1, y=5)'
        """,
    ),
    Kind(
        "NamedTuple with a method",
        """
        from typing import NamedTuple

        class NmSegment(NamedTuple):
            start: float
            end: float = 1.0

            def length(self):
                return self.end - self.start

        nm_segments = [NmSegment(0.25)]
        """,
        "nm_segments.append(NmSegment(1, 3))",
        """
        assert [nm_s.length() for nm_s in nm_segments] == [0.75, 2]
        assert all(isinstance(nm_s, NmSegment) for nm_s in nm_segments) and NmSegment._fields == ('start', 'end')
        assert NmSegment(0).end == 1.0
        """,
    ),
    Kind(
        "heap in a list",
        "import heapq\nhq_heap = []\nfor hq_n in (5, 1, 4): heapq.heappush(hq_heap, (hq_n, str(hq_n)))",
        "heapq.heappush(hq_heap, (0, 'zero')); heapq.heappush(hq_heap, (3, 'three'))",
        """
        heapq.heappush(hq_heap, (2, 'two'))
        assert [heapq.heappop(hq_heap)[0] for _ in range(4)] == [0, 1, 2, 3]
        """,
    ),
    Kind(
        "array of the array module",
        "import array\naa_array = array.array('d', [1.5, 2.5]); aa_text = array.array('u', 'é')",
        "aa_array.append(3.5)",
        """
        assert aa_array.tolist() == [1.5, 2.5, 3.5] and aa_array.typecode == 'd' and aa_text.tounicode() == 'é'
        aa_array.extend([4.5])
        assert sum(aa_array) == 12
        """,
    ),
    Kind(
        "bytearray",
        "ba_data = bytearray(b'hello')",
        "ba_data[0] = ord('j'); ba_data += b'!'",
        """
        assert ba_data == b'jello!' and type(ba_data) is bytearray
        ba_data.extend(b'?')
        assert ba_data.endswith(b'!?')
        """,
    ),
    Kind(
        "large bytes and text",
        "lbt_bytes = bytes(range(256)) * 2000; lbt_text = 'snow \\u2603 \\U0001f600 ' * 20000",
        "lbt_bytes += b'end'; lbt_text = lbt_text.upper()",
        """
        assert len(lbt_bytes) == 512003 and lbt_bytes.endswith(b'\\xffend')
        assert lbt_text.startswith('SNOW \\u2603 \\U0001f600') and len(lbt_text) == 180000
        """,
    ),
    Kind(
        "text that no encoding takes",
        "lon_text = 'a\\ud800b'; lon_map = {lon_text: 'surrogate'}",
        "lon_map[lon_text + '\\x00'] = 'nul'",
        """
        assert lon_map['a\\ud800b'] == 'surrogate' and lon_map['a\\ud800b\\x00'] == 'nul'
        assert lon_text[1] == '\\ud800' and len(lon_text) == 3
        """,
    ),
    Kind(
        "range and slice",
        "rs_range = range(0, 100, 7); rs_slice = slice(1, None, 2)",
        "rs_range = rs_range[rs_slice]",
        """
        assert list(rs_range)[:3] == [7, 21, 35] and rs_range.step == 14
        assert 'abcdef'[rs_slice] == 'bdf'
        """,
    ),
    Kind(
        "singletons of the language",
        "sg_all = [None, True, False, ..., NotImplemented, int, type, object, len, print]; sg_missing = object()",
        "sg_holder = {'default': sg_missing}",
        """
        assert sg_all[3] is ... and sg_all[4] is NotImplemented and sg_all[5] is int and sg_all[8] is len
        assert sg_all[9] is print and sg_holder['default'] is sg_missing and sg_missing is not object()
        """,
    ),
    Kind(
        "subclasses of dict and list with attributes",
        """
        class SbDict(dict):
            def __missing__(self, key):
                return self.fallback

        class SbList(list):
            pass

        sb_dict = SbDict(a=1); sb_dict.fallback = 'none'
        sb_list = SbList([1, 2]); sb_list.title = 'numbers'
        """,
        "sb_dict.fallback = 'changed'; sb_list.append(3); sb_list.title += '!'",
        """
        assert sb_dict['zz'] == 'changed' and sb_dict['a'] == 1 and isinstance(sb_dict, SbDict)
        assert sb_list == [1, 2, 3] and sb_list.title == 'numbers!' and type(sb_list) is SbList
        sb_list.extend(sb_dict)
        assert sb_list[-1] == 'a'
        """,
    ),
    Kind(
        "UserDict and UserList",
        """
        from collections import UserDict, UserList

        class UdLower(UserDict):
            def __setitem__(self, key, value):
                super().__setitem__(key.lower(), value)

        ud_map = UdLower(A=1); ud_list = UserList([3, 1])
        """,
        "ud_map['B'] = 2; ud_list.sort()",
        """
        assert ud_map.data == {'a': 1, 'b': 2} and ud_list == [1, 3]
        ud_map['C'] = 3
        assert 'c' in ud_map and isinstance(ud_map, UdLower)
        """,
    ),
    Kind(
        "subclasses of int, str, tuple and float",
        """
        class SiInt(int):
            def __repr__(self):
                return f'{int(self)} m'

        class SiStr(str):
            __slots__ = ()

        class SiTuple(tuple):
            def __new__(cls, *items):
                return super().__new__(cls, items)

            def __getnewargs__(self):
                return tuple(self)

        si_all = [SiInt(3), SiStr('x'), SiTuple(1, 2)]; si_all[0].unit = 'm'
        """,
        "si_all.append(SiTuple(*si_all[2], 3)); si_all[0].unit = 'metre'",
        """
        assert repr(si_all[0]) == '3 m' and si_all[0] + 1 == 4 and si_all[0].unit == 'metre'
        assert type(si_all[1]) is SiStr and si_all[1].upper() == 'X'
        assert type(si_all[3]) is SiTuple and si_all[3] == (1, 2, 3) and SiTuple(4) == (4,)
        """,
    ),
    Kind(
        "SimpleNamespace",
        "from types import SimpleNamespace\nsn_config = SimpleNamespace(a=1, inner=SimpleNamespace(b=[2]))",
        "sn_config.inner.b.append(3); sn_config.c = 'new'",
        """
        assert sn_config == SimpleNamespace(a=1, inner=SimpleNamespace(b=[2, 3]), c='new')
        del sn_config.a
        assert not hasattr(sn_config, 'a')
        """,
    ),
    Kind(
        "iterator in the middle of a list",
        """
        it_list = [1, 2, 3, 4, 5]; it_iterator = iter(it_list); next(it_iterator); it_back = reversed(it_list)
        next(it_back)
        """,
        "next(it_iterator)",
        """
        assert next(it_iterator) == 3 and next(it_back) == 4
        it_list.append(6)
        assert list(it_iterator) == [4, 5, 6]
        """,
    ),
    Kind(
        "enumerate, zip and map half way",
        """
        eh_enumerate = enumerate('abcd', start=1); next(eh_enumerate)
        eh_zip = zip([1, 2, 3], 'xyz'); next(eh_zip)
        eh_map = map(lambda n: n * eh_factor, [1, 2, 3]); eh_factor = 2; next(eh_map)
        """,
        "next(eh_enumerate); eh_factor = 5",
        """
        assert list(eh_enumerate) == [(3, 'c'), (4, 'd')] and list(eh_zip) == [(2, 'y'), (3, 'z')]
        assert next(eh_map) == 10
        eh_factor = 6
        assert next(eh_map) == 18
        """,
    ),
    Kind(
        "many small objects",
        "msm_rows = [{'id': n, 'tags': [str(n)]} for n in range(5000)]",
        "msm_rows[4321]['tags'].append('changed')",
        """
        assert len(msm_rows) == 5000 and msm_rows[4321] == {'id': 4321, 'tags': ['4321', 'changed']}
        msm_rows[0]['id'] = -1
        assert msm_rows[0]['id'] == -1 and msm_rows[1]['id'] == 1
        """,
    ),
    Kind(
        "variable that was deleted and made again",
        "dm_gone = 1; dm_back = [1]; dm_stays = dm_back",
        "del dm_gone, dm_back; dm_back = [2]",
        """
        assert 'dm_gone' not in globals() and dm_back == [2] and dm_stays == [1]
        dm_gone = 3
        assert dm_gone == 3
        """,
    ),
    Kind(
        "names that only Python's grammar forbids, and unicode names",
        "globals()['no identifier'] = [1]; größe_名 = {'länge': 1}",
        "globals()['no identifier'].append(2); größe_名['länge'] += 1",
        "assert globals()['no identifier'] == [1, 2] and größe_名 == {'länge': 2}",
    ),
)
