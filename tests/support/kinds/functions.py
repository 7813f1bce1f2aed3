"""Functions of every shape."""

from __future__ import annotations

from .kind import Kind

KINDS: tuple[Kind, ...] = (
    Kind(
        "function that reads a global",
        "fg_rate = 2\n\ndef fg_scale(n):\n    return n * fg_rate",
        "fg_rate = 3",
        """
        assert fg_scale(10) == 30
        fg_rate = 4
        assert fg_scale(10) == 40 and fg_scale.__globals__ is globals()
        """,
    ),
    Kind(
        "function that writes a global",
        "fw_total = 0\n\ndef fw_add(n):\n    global fw_total\n    fw_total += n",
        "fw_add(5)",
        """
        assert fw_total == 5
        fw_add(2)
        assert fw_total == 7
        """,
    ),
    Kind(
        "function that makes a global by globals()",
        "def gm_make(name):\n    globals()[name] = [name]",
        "gm_make('gm_made')",
        """
        assert gm_made == ['gm_made']
        gm_make('gm_later')
        assert gm_later == ['gm_later']
        """,
    ),
    Kind(
        "function that changes a list in a global",
        "fl_log = []\n\ndef fl_note(text):\n    fl_log.append(text)",
        "fl_note('one')",
        """
        fl_note('two')
        assert fl_log == ['one', 'two']
        fl_log = ['fresh']
        fl_note('three')
        assert fl_log == ['fresh', 'three']
        """,
    ),
    Kind(
        "function that calls one which a later cell redefines",
        "def fr_inner():\n    return 'old'\n\ndef fr_outer():\n    return fr_inner()",
        "fr_kept = fr_inner\ndef fr_inner():\n    return 'new'",
        """
        assert fr_outer() == 'new' and fr_kept() == 'old'
        fr_inner = lambda: 'newest'
        assert fr_outer() == 'newest'
        """,
    ),
    Kind(
        "function that uses a name which a later cell defines",
        "def ul_use():\n    return ul_later.value + ul_number",
        "class ul_later:\n    value = 1\n\nul_number = 5",
        """
        assert ul_use() == 6
        ul_later.value = 10
        assert ul_use() == 15
        """,
    ),
    Kind(
        "closure that counts",
        """
        def cc_make():
            count = 0

            def step(by=1):
                nonlocal count
                count += by
                return count

            return step

        cc_step = cc_make()
        """,
        "cc_step(); cc_step(10)",
        """
        assert cc_step() == 12
        cc_fresh = cc_make()
        assert cc_fresh() == 1 and cc_step() == 13
        """,
    ),
    Kind(
        "two closures that share a variable",
        """
        def ct_make():
            value = 0

            def ct_get():
                return value

            def ct_set(new):
                nonlocal value
                value = new

            return ct_get, ct_set

        ct_read, ct_write = ct_make()
        """,
        "ct_write(5)",
        """
        assert ct_read() == 5
        ct_write(6)
        assert ct_read() == 6
        """,
    ),
    Kind(
        "closures of different cells that share a variable",
        """
        def cd_make():
            value = [0]; seen = 0

            def cd_make_more():
                def cd_step():
                    nonlocal seen
                    seen += 1
                    value.append(seen)
                    return seen
                return cd_step

            return cd_make_more, value

        cd_more, cd_value = cd_make(); cd_one = cd_more()
        """,
        "cd_two = cd_more(); cd_two(); cd_one()",
        """
        assert cd_value == [0, 1, 2] and cd_two() == 3 and cd_one() == 4
        cd_three = cd_more()
        assert cd_three() == 5 and cd_value[-1] == 5
        """,
    ),
    Kind(
        "closure whose variable has no value yet",
        """
        def ce_make():
            def ce_read():
                return ce_late

            def ce_fill(value):
                nonlocal ce_late
                ce_late = value

            if False:
                ce_late = None
            return ce_read, ce_fill

        ce_read, ce_fill = ce_make()
        """,
        "ce_pair = (ce_read, ce_fill)",
        """
        try:
            ce_read()
        except NameError as ce_error:
            ce_message = str(ce_error)
        assert 'ce_late' in ce_message
        ce_fill(3)
        assert ce_pair[0]() == 3 and ce_pair[0] is ce_read
        """,
    ),
    Kind(
        "lambdas that were made in a loop",
        """
        ll_late = [lambda: ll_n for ll_n in range(3)]
        ll_early = [lambda n=n: n + ll_add for n in range(3)]; ll_add = 0
        """,
        "ll_add = 100",
        """
        assert [ll_f() for ll_f in ll_late] == [2, 2, 2] and [ll_f() for ll_f in ll_early] == [100, 101, 102]
        ll_add = 200
        assert ll_early[1]() == 201
        """,
    ),
    Kind(
        "lambdas in a dict",
        "ld_ops = {'add': lambda a, b: a + b, 'offset': lambda a: a + ld_offset}; ld_offset = 1",
        "ld_ops['neg'] = lambda a: -a; ld_offset = 2",
        """
        assert ld_ops['add'](1, 2) == 3 and ld_ops['neg'](1) == -1 and ld_ops['offset'](0) == 2
        ld_offset = 3
        assert ld_ops['offset'](0) == 3
        """,
    ),
    Kind(
        "recursion",
        "def rc_sum(n):\n    return n and n + rc_sum(n - 1)",
        "rc_result = rc_sum(4)",
        "assert rc_result == 10 and rc_sum(5) == 15 and rc_sum.__code__.co_name == 'rc_sum'",
    ),
    Kind(
        "recursion of an inner function",
        """
        def ri_make():
            def ri_fib(n):
                return n if n < 2 else ri_fib(n - 1) + ri_fib(n - 2)
            return ri_fib

        ri_f = ri_make()
        """,
        "ri_g = ri_f",
        "assert ri_f(10) == 55 and ri_g is ri_f and ri_f.__closure__[0].cell_contents is ri_f",
    ),
    Kind(
        "mutual recursion",
        "def mr_even(n):\n    return n == 0 or mr_odd(n - 1)",
        "def mr_odd(n):\n    return n != 0 and mr_even(n - 1)",
        """
        assert mr_even(10) and mr_odd(7) and not mr_even(3)
        mr_odd = lambda n: 'replaced'
        assert mr_even(1) == 'replaced'
        """,
    ),
    Kind(
        "decorator that wraps",
        """
        import functools

        def dw_twice(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return [function(*args, **kwargs), function(*args, **kwargs)]
            return wrapper

        dw_word = 'hello'

        @dw_twice
        def dw_greet(name):
            \"\"\"Greet.\"\"\"
            return f'{dw_word} {name}'
        """,
        "dw_word = 'bye'",
        """
        assert dw_greet('A') == ['bye A', 'bye A'] and dw_greet.__name__ == 'dw_greet' and dw_greet.__doc__ == 'Greet.'
        dw_word = 'x'
        assert dw_greet.__wrapped__('B') == 'x B'
        """,
    ),
    Kind(
        "decorator that registers",
        """
        dr_registry = {}

        def dr_register(name):
            def decorate(function):
                dr_registry[name] = function
                function.registered_as = name
                return function
            return decorate

        @dr_register('one')
        def dr_one():
            return 1
        """,
        "@dr_register('two')\ndef dr_two():\n    return 2",
        """
        assert dr_registry['one'] is dr_one and dr_registry['two'] is dr_two and dr_two.registered_as == 'two'
        dr_register('three')(lambda: 3)
        assert [dr_f() for dr_f in dr_registry.values()] == [1, 2, 3]
        """,
    ),
    Kind(
        "decorator that is an object",
        """
        class DoCalls:
            def __init__(self, function):
                self.function, self.calls = function, 0

            def __call__(self, *args):
                self.calls += 1
                return self.function(*args)

        @DoCalls
        def do_square(n):
            return n * n
        """,
        "do_square(2)",
        "assert do_square(3) == 9 and do_square.calls == 2 and isinstance(do_square, DoCalls)",
    ),
    Kind(
        "default argument that is changed",
        "def da_collect(item, into=[]):\n    into.append(item)\n    return into",
        "da_collect(1); da_list = da_collect(2)",
        """
        assert da_collect(3) == [1, 2, 3] and da_list is da_collect.__defaults__[0]
        da_list.clear()
        assert da_collect(4) == [4]
        """,
    ),
    Kind(
        "parameters of every sort, with annotations",
        """
        def ps_all(a, /, b: int = 2, *rest: str, c, d: 'ps_Later' = 4, **more) -> list:
            return [a, b, rest, c, d, more]
        """,
        "ps_all.__kwdefaults__['d'] = 40; ps_all.__annotations__['c'] = float",
        """
        import inspect
        assert ps_all(1, c=3) == [1, 2, (), 3, 40, {}] and ps_all(1, 2, 'x', c=3, z=5)[2:] == [('x',), 3, 40, {'z': 5}]
        ps_text = str(inspect.signature(ps_all))
        assert ps_text == "(a, /, b: int = 2, *rest: str, c: float, d: 'ps_Later' = 40, **more) -> list"
        """,
    ),
    Kind(
        "function with attributes",
        "def fa_f():\n    fa_f.calls += 1\n    return fa_f.calls\n\nfa_f.calls = 0; fa_f.log = []",
        "fa_f(); fa_f.log.append('x'); fa_f.__doc__ = 'Documented later.'",
        """
        assert fa_f() == 2 and fa_f.log == ['x']
        assert fa_f.__doc__ == 'Documented later.' and fa_f.__module__ == '__main__'
        """,
    ),
    Kind(
        "function that was deleted but is held elsewhere",
        "fd_by = 2\n\ndef fd_f(n):\n    return n * fd_by\n\nfd_table = {'f': fd_f}",
        "del fd_f; fd_by = 3",
        "assert fd_table['f'](2) == 6 and 'fd_f' not in globals()\nfd_by = 4\nassert fd_table['f'](2) == 8",
    ),
    Kind(
        "function whose import is a global",
        """
        import math
        from collections import Counter as fi_Counter

        def fi_f(word):
            return math.sqrt(fi_Counter(word)['a'])
        """,
        "fi_result = fi_f('aaaa')",
        "assert fi_result == 2 and fi_f('a') == 1",
    ),
    Kind(
        "function that was made by exec",
        "fx_space = {'base': 10}\nexec('def fx_f(n):\\n    return base + n', fx_space)\nfx_f = fx_space['fx_f']",
        "fx_space['base'] = 20",
        """
        assert fx_f(1) == 21
        fx_space['base'] = 30
        assert fx_f(1) == 31 and fx_space['fx_f'] is fx_f
        """,
    ),
    Kind(
        "generator function",
        "gf_step = 1\n\ndef gf_count(n):\n    while True:\n        n += gf_step\n        yield n",
        "gf_step = 2; gf_first = next(gf_count(0))",
        """
        gf_running = gf_count(0)
        assert gf_first == 2 and next(gf_running) == 2
        gf_step = 5
        assert next(gf_running) == 7
        """,
    ),
    Kind(
        "coroutine function",
        """
        import asyncio
        cor_delay = 0

        async def cor_get(n):
            await asyncio.sleep(cor_delay)
            return n * cor_factor

        cor_factor = 2
        """,
        "cor_result = await cor_get(2); cor_factor = 3",
        """
        assert cor_result == 4 and await cor_get(2) == 6
        assert await asyncio.gather(cor_get(1), cor_get(2)) == [3, 6]
        """,
    ),
    Kind(
        "asynchronous generator function and context manager",
        """
        import contextlib

        async def ag_numbers(n):
            for i in range(n):
                yield i + ag_add

        @contextlib.asynccontextmanager
        async def ag_open():
            ag_log.append('open')
            yield ag_log
            ag_log.append('close')

        ag_add = 0; ag_log = []
        """,
        "async with ag_open(): ag_add = 10",
        """
        assert [ag_n async for ag_n in ag_numbers(2)] == [10, 11]
        async with ag_open() as ag_same:
            assert ag_same is ag_log
        assert ag_log == ['open', 'close'] * 2
        """,
    ),
    Kind(
        "context manager function",
        """
        import contextlib

        @contextlib.contextmanager
        def cx_indent(by):
            global cx_depth
            cx_depth += by
            try:
                yield cx_depth
            finally:
                cx_depth -= by

        cx_depth = 0
        """,
        "cx_depth = 1",
        """
        with cx_indent(2) as cx_inside:
            assert cx_inside == cx_depth == 3
        assert cx_depth == 1
        """,
    ),
    Kind(
        "functools.partial and its chain",
        """
        import functools

        def fp_join(*parts, sep):
            return sep.join(parts) + fp_end

        fp_end = '.'; fp_dash = functools.partial(fp_join, 'a', sep='-')
        """,
        "fp_more = functools.partial(fp_dash, 'b'); fp_end = '!'",
        """
        assert fp_more('c') == 'a-b-c!' and fp_dash.func is fp_join and fp_more.args == ('a', 'b')
        fp_end = '?'
        assert fp_dash() == 'a?'
        """,
    ),
    Kind(
        "function with lru_cache",
        """
        import functools

        @functools.lru_cache(maxsize=32)
        def lc_fib(n):
            return n if n < 2 else lc_fib(n - 1) + lc_fib(n - 2)
        """,
        "lc_result = lc_fib(20); lc_alias = lc_fib",
        """
        assert lc_result == 6765 and lc_fib(30) == 832040 and lc_alias is lc_fib
        assert lc_fib.cache_parameters() == {'maxsize': 32, 'typed': False} and lc_fib.cache_info().currsize > 20
        lc_fib.cache_clear()
        assert lc_fib.cache_info().currsize == 0 and lc_fib.__wrapped__(5) == 5
        """,
    ),
    Kind(
        "cached method of a class",
        """
        import functools

        class LmLoader:
            def __init__(self, base):
                self.base = base

            @functools.lru_cache
            def load(self, n):
                return [self.base, n]

        lm_loader = LmLoader('b')
        """,
        "lm_first = lm_loader.load(1)",
        """
        assert lm_first == ['b', 1] and lm_loader.load(2) == ['b', 2] and lm_loader.load(2) is lm_loader.load(2)
        assert LmLoader('c').load(1) == ['c', 1]
        """,
    ),
    Kind(
        "singledispatch",
        """
        import functools

        class SdShape:
            pass

        @functools.singledispatch
        def sd_name(thing):
            return 'thing'

        @sd_name.register
        def _sd_int(thing: int):
            return 'int'
        """,
        "@sd_name.register(SdShape)\ndef _sd_shape(thing):\n    return 'shape'",
        """
        assert [sd_name(sd_x) for sd_x in ('', 5, SdShape())] == ['thing', 'int', 'shape']
        sd_name.register(list, lambda thing: 'list')
        assert sd_name([]) == 'list' and sd_name.dispatch(SdShape) is _sd_shape
        """,
    ),
    Kind(
        "bound methods in variables",
        """
        class BmTally:
            def __init__(self):
                self.total = 0

            def add(self, n):
                self.total += n
                return self.total

        bm_tally = BmTally(); bm_add = bm_tally.add
        """,
        "bm_add(3)",
        """
        assert bm_tally.total == 3 and bm_add.__self__ is bm_tally
        bm_add(4)
        assert bm_tally.total == 7
        """,
    ),
    Kind(
        "bound methods of built-in objects",
        "bb_list = [1]; bb_append = bb_list.append; bb_map = {'a': 1}; bb_get = bb_map.get",
        "bb_append(2); bb_map['b'] = 2",
        """
        bb_append(3); bb_list.append(4)
        assert bb_list == [1, 2, 3, 4] and bb_get('b') == 2
        bb_map['c'] = 3
        assert bb_get('c') == 3
        """,
    ),
    Kind(
        "unbound methods and functions of classes",
        "um_methods = [str.upper, dict.fromkeys, list.sort, int.from_bytes, object.__repr__]",
        "um_methods.append('x-y'.split)",
        """
        assert um_methods[0]('a') == 'A' and um_methods[1]('ab', 0) == {'a': 0, 'b': 0}
        assert um_methods[3](b'\\x01\\x00') == 256 and um_methods[5]('-') == ['x', 'y'] and um_methods[2] is list.sort
        """,
    ),
    Kind(
        "pipeline of functions that know each other",
        """
        def pf_compose(*functions):
            def run(value):
                for function in functions:
                    value = function(value)
                return value
            run.parts = functions
            return run

        def pf_add(n): return n + pf_n
        pf_n = 1; pf_run = pf_compose(pf_add, str, lambda text: text * 2)
        """,
        "pf_n = 5; pf_again = pf_compose(pf_run, len)",
        """
        assert pf_run(1) == '66' and pf_again(1) == 2 and pf_run.parts[0] is pf_add
        pf_n = 10
        assert pf_run(1) == '1111'
        """,
    ),
    Kind(
        "function under another name of the same code",
        """
        def oc_f(n):
            return n + oc_n

        oc_n = 1
        import types
        oc_g = types.FunctionType(oc_f.__code__, globals(), 'oc_g')
        """,
        "oc_f.__code__ = (lambda n: n * oc_n).__code__; oc_n = 3",
        "assert oc_f(5) == 15 and oc_g(5) == 8 and oc_g.__name__ == 'oc_g'\noc_n = 4\nassert oc_g(5) == 9",
    ),
    Kind(
        "namespace of the notebook in a container",
        "nsp_spaces = {'main': globals()}; nsp_value = 1",
        "nsp_spaces['main']['nsp_value'] = 2",
        """
        assert nsp_spaces['main'] is globals() and nsp_value == 2
        nsp_spaces['main']['nsp_new'] = 3
        assert nsp_new == 3
        """,
    ),
    Kind(
        "closure of a module that a cell imported",
        """
        import sys
        (scratch / 'frl_folder').mkdir()
        frl_text = 'count = 0\\ndef make(by):\\n    def step():\\n        global count\\n'
        frl_text += '        count += by\\n        return count\\n    return step'
        (scratch / 'frl_folder' / 'frl_tools.py').write_text(frl_text)
        sys.path.insert(0, str(scratch / 'frl_folder'))
        import frl_tools
        frl_two = frl_tools.make(2)
        """,
        "frl_ten = frl_tools.make(10)",
        """
        frl_tools.count = 100
        assert frl_ten() == frl_tools.count == 110 and frl_two() == frl_tools.count == 112
        """,
    ),
)
