"""Values of the standard library, most of which cannot be changed."""

from __future__ import annotations

from .kind import Kind

KINDS: tuple[Kind, ...] = (
    Kind(
        "numbers of every sort",
        "import math\nnu_all = [2**200, -0.0, float('inf'), float('nan'), 1e-320, 3 + 4j, complex('-0j')]",
        "nu_all[0] += 1",
        """
        assert nu_all[0] == 2**200 + 1 and math.copysign(1, nu_all[1]) == -1 and math.isinf(nu_all[2])
        assert math.isnan(nu_all[3]) and nu_all[4] == 1e-320 and abs(nu_all[5]) == 5
        """,
    ),
    Kind(
        "Decimal and Fraction",
        """
        from decimal import Decimal
        from fractions import Fraction
        dfr_money = Decimal('0.10'); dfr_third = Fraction(1, 3)
        """,
        "dfr_money += Decimal('0.20'); dfr_third *= 2",
        "assert str(dfr_money) == '0.30' and dfr_third == Fraction(2, 3) and dfr_money * 3 == Decimal('0.9')",
    ),
    Kind(
        "decimal context of one's own",
        "import decimal\ndcx_context = decimal.Context(prec=5, rounding=decimal.ROUND_DOWN)",
        "dcx_context.prec = 4",
        "assert str(dcx_context.divide(decimal.Decimal(2), decimal.Decimal(3))) == '0.6666'",
    ),
    Kind(
        "dates, times and differences",
        """
        import datetime
        dt_moment = datetime.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=datetime.timezone.utc, fold=1)
        dt_all = [dt_moment.date(), dt_moment.timetz(), datetime.timedelta(days=1, microseconds=3)]
        dt_all.append(datetime.timezone(datetime.timedelta(hours=5, minutes=30), 'IST'))
        """,
        "dt_moment += dt_all[2]",
        """
        assert dt_moment.isoformat() == '2024-03-01T12:30:01.000008+00:00'
        assert dt_all[0] == datetime.date(2024, 2, 29) and dt_all[1].fold == 1 and dt_all[3].tzname(None) == 'IST'
        assert dt_moment.astimezone(dt_all[3]).hour == 18
        """,
    ),
    Kind(
        "zone of zoneinfo",
        """
        import datetime
        from zoneinfo import ZoneInfo
        zi_zone = ZoneInfo('Europe/Berlin'); zi_summer = datetime.datetime(2024, 7, 1, 12, tzinfo=zi_zone)
        """,
        "zi_winter = zi_summer.replace(month=1)",
        """
        assert zi_summer.utcoffset() == datetime.timedelta(hours=2) and zi_winter.tzname() == 'CET'
        assert zi_winter.tzinfo is zi_zone and ZoneInfo('Europe/Berlin') is zi_zone
        """,
    ),
    Kind(
        "time.struct_time",
        "import time\nst_time = time.gmtime(0)",
        "st_time = time.gmtime(86400)",
        """
        assert st_time.tm_mday == 2 and time.strftime('%Y', st_time) == '1970' and isinstance(st_time, time.struct_time)
        """,
    ),
    Kind(
        "UUIDs",
        "import uuid\nuu_id = uuid.UUID(int=5); uu_made = uuid.uuid5(uuid.NAMESPACE_DNS, 'example.org')",
        "uu_map = {uu_id: 'five', uu_made: 'name'}",
        "assert uu_map[uuid.UUID(int=5)] == 'five' and uu_made.version == 5 and uu_id.int == 5",
    ),
    Kind(
        "paths",
        "from pathlib import Path, PurePosixPath\npa_path = scratch / 'pa.txt'; pa_pure = PurePosixPath('/a/b.c')",
        "pa_path.write_text('text'); pa_pure = pa_pure.with_suffix('.d')",
        """
        assert pa_path.read_text() == 'text' and isinstance(pa_path, Path) and pa_path.parent == scratch
        assert str(pa_pure / 'e') == '/a/b.d/e'
        """,
    ),
    Kind(
        "compiled pattern",
        "import re\nre_pattern = re.compile(r'(?P<word>\\w+)!', re.IGNORECASE | re.DOTALL)",
        "re_found = re_pattern.findall('Hi! there!')",
        """
        assert re_found == ['Hi', 'there'] and re_pattern.match('YO!')['word'] == 'YO'
        assert re_pattern.flags & re.IGNORECASE and re_pattern.groupindex['word'] == 1
        """,
    ),
    Kind(
        "Enum with methods and aliases",
        """
        import enum

        class EnColor(enum.Enum):
            RED = 1
            GREEN = 2
            ROUGE = 1

            def lower(self):
                return self.name.lower()

        en_favorite = EnColor.RED
        """,
        "en_favorite = EnColor.GREEN; en_votes = {EnColor.RED: 3}",
        """
        assert en_favorite is EnColor.GREEN and EnColor(2) is en_favorite and EnColor['ROUGE'] is EnColor.RED
        assert en_votes[EnColor.RED] == 3 and en_favorite.lower() == 'green' and list(EnColor)[0].name == 'RED'
        assert isinstance(en_favorite, EnColor) and len(EnColor) == 2
        """,
    ),
    Kind(
        "IntEnum and StrEnum",
        """
        import enum

        class EiLevel(enum.IntEnum):
            LOW = enum.auto()
            HIGH = enum.auto()

        class EiUnit(enum.StrEnum):
            METRE = enum.auto()

        ei_level = EiLevel.LOW; ei_unit = EiUnit.METRE
        """,
        "ei_level = EiLevel(ei_level + 1)",
        """
        assert ei_level is EiLevel.HIGH and ei_level > 1 and f'{ei_unit}' == 'metre' and ei_unit is EiUnit('metre')
        assert sorted(EiLevel, reverse=True)[0] is ei_level
        """,
    ),
    Kind(
        "Flag",
        """
        import enum

        class FlgMode(enum.Flag):
            R = enum.auto()
            W = enum.auto()
            X = enum.auto()

        flg_mode = FlgMode.R
        """,
        "flg_mode |= FlgMode.X",
        """
        assert FlgMode.X in flg_mode and FlgMode.W not in flg_mode and flg_mode is FlgMode.R | FlgMode.X
        assert ~flg_mode is FlgMode.W and list(flg_mode) == [FlgMode.R, FlgMode.X]
        """,
    ),
    Kind(
        "Enum by its functional API",
        "import enum\nEfShape = enum.Enum('EfShape', 'ROUND SQUARE'); ef_shape = EfShape.ROUND",
        "ef_shape = EfShape.SQUARE",
        "assert ef_shape is EfShape.SQUARE and EfShape(1).name == 'ROUND' and [*EfShape][1] is ef_shape",
    ),
    Kind(
        "IP addresses and networks",
        "import ipaddress\nip_net = ipaddress.ip_network('10.0.0.0/30'); ip_hosts = list(ip_net.hosts())",
        "ip_hosts.append(ipaddress.ip_address('::1'))",
        """
        assert ip_hosts[0] in ip_net and ip_hosts[2].is_loopback and ip_hosts[0] + 1 == ip_hosts[1]
        assert ip_net.broadcast_address == ipaddress.IPv4Address('10.0.0.3')
        """,
    ),
    Kind(
        "parsed URL",
        "from urllib.parse import urlsplit, parse_qs\nur_parts = urlsplit('https://me@example.org:81/a?b=1&b=2#c')",
        "ur_parts = ur_parts._replace(path='/z'); ur_query = parse_qs(ur_parts.query)",
        """
        assert ur_parts.geturl() == 'https://me@example.org:81/z?b=1&b=2#c' and ur_parts.port == 81
        assert ur_query == {'b': ['1', '2']}
        """,
    ),
    Kind(
        "string.Template",
        "import string\ntm_template = string.Template('$who owes $$5')",
        "tm_filled = tm_template.substitute(who='Ann')",
        "assert tm_filled == 'Ann owes $5' and tm_template.safe_substitute() == '$who owes $5'",
    ),
    Kind(
        "statistics.NormalDist",
        "import statistics\nnd_dist = statistics.NormalDist(100, 15)",
        "nd_dist = nd_dist + 5",
        "assert nd_dist.mean == 105 and nd_dist.cdf(105) == 0.5 and (nd_dist * 2).stdev == 30",
    ),
    Kind(
        "operator.itemgetter and its like",
        """
        import operator
        og_all = [operator.itemgetter(1, 'a'), operator.attrgetter('real'), operator.methodcaller('split', ',')]
        """,
        "og_all.append(operator.itemgetter(0))",
        """
        assert og_all[0]({1: 2, 'a': 3}) == (2, 3) and og_all[1](5j) == 0 and og_all[2]('a,b') == ['a', 'b']
        assert sorted([(2,), (1,)], key=og_all[3]) == [(1,), (2,)]
        """,
    ),
    Kind(
        "struct.Struct",
        "import struct\nsr_struct = struct.Struct('<iH')",
        "sr_packed = sr_struct.pack(-2, 7)",
        "assert sr_struct.unpack(sr_packed) == (-2, 7) and sr_struct.size == 6 and sr_struct.format == '<iH'",
    ),
    Kind(
        "generic aliases and unions",
        """
        import typing
        gal_all = [list[int], dict[str, list[float]], int | None, typing.Optional[str], typing.Callable[[int], str]]
        """,
        "gal_all += [typing.Literal['a', 1], typing.Annotated[int, 'metres'], typing.Any]",
        """
        assert gal_all[0] == list[int] and gal_all[1].__args__ == (str, list[float]) and isinstance(None, gal_all[2])
        assert typing.get_args(gal_all[5]) == ('a', 1) and gal_all[6].__metadata__ == ('metres',)
        assert gal_all[7] is typing.Any and gal_all[0]('12') == ['1', '2']
        """,
    ),
    Kind(
        "TypeVar, ParamSpec and NewType",
        """
        import typing
        TvT = typing.TypeVar('TvT', bound=int); TvP = typing.ParamSpec('TvP'); TvUser = typing.NewType('TvUser', int)

        def tv_first(items: list[TvT]) -> TvT:
            return items[0]
        """,
        "tv_user = TvUser(tv_first([5, 6]))",
        """
        assert tv_user == 5 and TvUser(6) == 6 and TvUser.__name__ == 'TvUser' and TvT.__bound__ is int
        assert typing.get_type_hints(tv_first)['return'] is TvT and TvP.__name__ == 'TvP'
        """,
    ),
    Kind(
        "TypedDict and Protocol",
        """
        import typing

        class TdMovie(typing.TypedDict, total=False):
            title: typing.Required[str]
            year: int

        @typing.runtime_checkable
        class TdCloses(typing.Protocol):
            def close(self): ...

        class TdDoor:
            def close(self):
                return 'closed'

        td_movie: TdMovie = {'title': 'M'}; td_door = TdDoor()
        """,
        "td_movie['year'] = 1931",
        """
        assert TdMovie(title='N') == {'title': 'N'} and TdMovie.__required_keys__ == {'title'}
        assert td_movie['year'] == 1931
        assert isinstance(td_door, TdCloses) and not isinstance(5, TdCloses) and td_door.close() == 'closed'
        """,
    ),
    Kind(
        "type statement",
        "type TsVector = list[float]\ntype TsPair[T] = tuple[T, T]\nts_vector: TsVector = [1.0]",
        "ts_vector.append(2.0)",
        """
        assert ts_vector == [1.0, 2.0] and TsVector.__value__ == list[float] and TsVector.__name__ == 'TsVector'
        assert len(TsPair.__type_params__) == 1
        """,
    ),
    Kind(
        "code object",
        "co_code = compile('co_out = [n * co_by for n in range(3)]', '<co>', 'exec'); co_by = 2",
        "exec(co_code); co_by = 3",
        """
        assert co_out == [0, 2, 4]
        exec(co_code)
        assert co_out == [0, 3, 6] and co_code.co_filename == '<co>'
        """,
    ),
    Kind(
        "syntax tree",
        "import ast\nas_tree = ast.parse('1 + 2', mode='eval')",
        "as_tree.body.right = ast.Constant(40, lineno=1, col_offset=0)",
        "assert eval(compile(as_tree, '<as>', 'eval')) == 41 and ast.unparse(as_tree) == '1 + 40'",
    ),
    Kind(
        "results of os.stat and of platform",
        "import os\nos_stat = os.stat(scratch); os_size = os.terminal_size((80, 24))",
        "os_size = os.terminal_size((os_size.columns + 1, 24))",
        "assert os_stat.st_mode == os.stat(scratch).st_mode and os_size.columns == 81 and isinstance(os_size, tuple)",
    ),
    Kind(
        "modules, by import and by alias",
        "import json, xml.dom.minidom as mo_dom, os.path as mo_path\nmo_list = [json, mo_dom]",
        "from importlib import import_module as mo_import; mo_list.append(mo_import('colorsys'))",
        """
        assert mo_list[0] is json and json.loads('[1]') == [1]
        assert mo_dom.parseString('<a/>').documentElement.tagName == 'a'
        assert mo_list[2].rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0) and mo_path.join('a', 'b') == 'a/b'
        assert mo_import('colorsys') is mo_list[2]
        """,
    ),
    Kind(
        "module made in a cell",
        "import types\nmm_module = types.ModuleType('mm_module', 'made'); mm_module.value = [1]",
        "exec('def grow():\\n    value.append(2)\\n    return value', mm_module.__dict__); mm_module.grow()",
        """
        assert mm_module.value == [1, 2] and mm_module.__name__ == 'mm_module' and mm_module.__doc__ == 'made'
        assert mm_module.grow() is mm_module.value and mm_module.value == [1, 2, 2]
        """,
    ),
    Kind(
        "module from a folder that a cell put on sys.path",
        """
        import sys
        (scratch / 'sp_folder').mkdir(exist_ok=True)
        sp_source = 'class Tool:\\n    size = 1\\n\\ndef double(n):\\n    return 2 * n\\n'
        (scratch / 'sp_folder' / 'sp_helpers.py').write_text(sp_source)
        sys.path.insert(0, str(scratch / 'sp_folder'))
        import sp_helpers
        sp_tool = sp_helpers.Tool()
        """,
        "from sp_helpers import double as sp_double; sp_tool.size = 5",
        """
        assert str(scratch / 'sp_folder') in sys.path and sp_double(4) == 8 and sp_helpers.double is sp_double
        assert isinstance(sp_tool, sp_helpers.Tool) and sp_tool.size == 5 and sp_helpers.Tool.size == 1
        """,
    ),
    Kind(
        "environment variable",
        "import os\nos.environ['KINDS_EV_MARK'] = 'one'; os.environ['KINDS_EV_GONE'] = 'x'",
        "os.environ['KINDS_EV_MARK'] = 'two'; del os.environ['KINDS_EV_GONE']; env_seen = os.environ['KINDS_EV_MARK']",
        """
        assert os.environ['KINDS_EV_MARK'] == env_seen == 'two' and 'KINDS_EV_GONE' not in os.environ
        os.environ['KINDS_EV_MARK'] = 'three'
        assert os.getenv('KINDS_EV_MARK') == 'three'
        """,
    ),
    Kind(
        "Enum whose members have attributes, and Flag with names for combinations",
        """
        import enum

        class EaPlanet(enum.Enum):
            EARTH = (1.0, 'blue')
            MARS = (0.1, 'red')

            def __init__(self, mass, color):
                self.mass = mass

        class EaRight(enum.Flag):
            READ = 1
            WRITE = 2
            ALL = 3

        ea_planet = EaPlanet.EARTH; ea_right = EaRight.READ
        """,
        "ea_right |= EaRight.WRITE; EaPlanet.MARS.visited = True",
        """
        assert ea_planet.mass == 1.0 and EaPlanet.MARS.visited and EaPlanet((0.1, 'red')) is EaPlanet.MARS
        assert ea_right is EaRight.ALL and EaRight['ALL'] is EaRight(3) and EaRight.ALL.name == 'ALL'
        """,
    ),
)
