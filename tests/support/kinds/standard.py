"""Objects of the standard library that do something."""

from __future__ import annotations

from .kind import Kind

KINDS: tuple[Kind, ...] = (
    Kind(
        "StringIO and BytesIO at their positions",
        "import io\nio_text = io.StringIO('one\\ntwo\\n'); io_text.readline(); io_bytes = io.BytesIO(b'12345')",
        "io_bytes.seek(2)",
        """
        assert io_text.readline() == 'two\\n' and io_bytes.read(1) == b'3'
        io_bytes.write(b'X')
        assert io_bytes.getvalue() == b'123X5'
        """,
    ),
    Kind(
        "text file that is being read",
        """
        (scratch / 'tf.txt').write_text('first\\nsecond\\nthird\\n', encoding='utf-8')
        tf_file = open(scratch / 'tf.txt', encoding='utf-8')
        """,
        "tf_line = tf_file.readline()",
        """
        assert tf_line == 'first\\n' and tf_file.readline() == 'second\\n' and not tf_file.closed
        assert tf_file.name == str(scratch / 'tf.txt') and tf_file.mode == 'r'
        tf_file.close()
        """,
    ),
    Kind(
        "binary file that is being read",
        """
        (scratch / 'bf.bin').write_bytes(bytes(range(100))); bf_file = (scratch / 'bf.bin').open('rb'); bf_file.read(10)
        """,
        "bf_file.seek(50)",
        """
        assert bf_file.read(2) == bytes([50, 51]) and bf_file.tell() == 52
        bf_file.seek(0)
        assert bf_file.read(1) == bytes([0])
        bf_file.close()
        """,
    ),
    Kind(
        "logger",
        "import logging\nlg_logger = logging.getLogger('kinds.lg'); lg_child = lg_logger.getChild('inner')",
        "lg_loggers = {'main': lg_logger}",
        """
        assert lg_logger is logging.getLogger('kinds.lg') and lg_loggers['main'] is lg_logger
        assert lg_child.name == 'kinds.lg.inner' and lg_child.parent is lg_logger
        lg_logger.debug('alive')
        """,
    ),
    Kind(
        "log record and formatter",
        """
        import logging
        lr_record = logging.LogRecord('n', logging.INFO, 'p.py', 3, 'a %s', ('b',), None)
        lr_formatter = logging.Formatter('%(levelname)s %(message)s')
        """,
        "lr_record.levelname = 'NOTE'",
        "assert lr_formatter.format(lr_record) == 'NOTE a b' and lr_record.lineno == 3",
    ),
    Kind(
        "random.Random",
        "import random\nrra_random = random.Random(5); rra_twin = random.Random(5)",
        "rra_random.random()",
        """
        rra_twin.random()
        assert [rra_random.randrange(1000) for _ in range(5)] == [rra_twin.randrange(1000) for _ in range(5)]
        """,
    ),
    Kind(
        "state of the random module",
        "import random\nrandom.seed(7)",
        "random.random(); rm_twin = random.Random(); rm_twin.setstate(random.getstate())",
        "assert [random.random() for _ in range(3)] == [rm_twin.random() for _ in range(3)]",
    ),
    Kind(
        "locks that are free",
        "import threading\nlo_lock = threading.Lock(); lo_rlock = threading.RLock()",
        "with lo_lock, lo_rlock: lo_done = True",
        """
        assert lo_done and not lo_lock.locked() and lo_lock.acquire(blocking=False)
        assert lo_lock.locked()
        lo_lock.release()
        with lo_rlock, lo_rlock:
            pass
        """,
    ),
    Kind(
        "lock in an object, shared by two",
        """
        import threading

        class LshAccount:
            def __init__(self, lock):
                self.lock, self.balance = lock, 0

            def add(self, amount):
                with self.lock:
                    self.balance += amount

        lsh_lock = threading.Lock(); lsh_one = LshAccount(lsh_lock); lsh_two = LshAccount(lsh_lock)
        """,
        "lsh_one.add(5); lsh_two.add(7)",
        """
        lsh_one.add(1)
        assert (lsh_one.balance, lsh_two.balance) == (6, 7) and lsh_one.lock is lsh_two.lock is lsh_lock
        """,
    ),
    Kind(
        "event, condition, semaphore and barrier",
        """
        import threading
        ev_event = threading.Event(); ev_condition = threading.Condition(); ev_barrier = threading.Barrier(1)
        ev_semaphore = threading.BoundedSemaphore(2)
        """,
        "ev_event.set(); ev_semaphore.acquire()",
        """
        assert ev_event.is_set() and ev_event.wait(0)
        with ev_condition:
            ev_condition.notify_all()
        assert ev_semaphore.acquire(blocking=False) and not ev_semaphore.acquire(blocking=False)
        assert ev_barrier.wait() == 0
        """,
    ),
    Kind(
        "queues",
        "import queue\nqu_queue = queue.Queue(maxsize=3); qu_order = queue.PriorityQueue(); qu_queue.put('a')",
        "qu_queue.put('b'); qu_order.put(3); qu_order.put(1)",
        """
        assert qu_queue.get_nowait() == 'a' and qu_queue.qsize() == 1 and qu_order.get() == 1
        qu_queue.put('c'); qu_queue.put('d')
        assert qu_queue.full() and [qu_queue.get() for _ in range(3)] == ['b', 'c', 'd']
        """,
    ),
    Kind(
        "queue and event of asyncio",
        "import asyncio\naq_queue = asyncio.Queue(); aq_event = asyncio.Event(); aq_queue.put_nowait(1)",
        "await aq_queue.put(2); aq_event.set()",
        """
        assert await aq_queue.get() == 1 and aq_event.is_set() and await aq_event.wait()
        aq_queue.put_nowait(3)
        assert [await aq_queue.get(), await aq_queue.get()] == [2, 3]
        """,
    ),
    Kind(
        "exception with cause, context and notes",
        """
        class ExError(ValueError):
            def __init__(self, code, *, hint):
                super().__init__(code)
                self.hint = hint

            def __reduce__(self):
                return _ex_make, (self.args[0], self.hint), self.__dict__

        def _ex_make(code, hint):
            return ExError(code, hint=hint)

        try:
            try:
                {}['key']
            except KeyError as ex_inner:
                raise ExError(5, hint='look') from ex_inner
        except ExError as ex_caught:
            ex_error = ex_caught
        """,
        "ex_error.add_note('later'); ex_error.hint = 'look again'",
        """
        assert isinstance(ex_error, ExError) and ex_error.args == (5,) and ex_error.hint == 'look again'
        assert ex_error.__notes__ == ['later']
        assert isinstance(ex_error.__cause__, KeyError) and ex_error.__cause__.args == ('key',)
        try:
            raise ex_error
        except ValueError as ex_again:
            assert ex_again is ex_error
        """,
    ),
    Kind(
        "exceptions of the library with their attributes",
        """
        import json
        xb_all = [OSError(2, 'No such file', 'name'), UnicodeDecodeError('utf-8', b'x', 0, 1, 'bad'), StopIteration(5)]
        try:
            json.loads('{')
        except ValueError as xb_caught:
            xb_all.append(xb_caught)
        """,
        "xb_all.append(KeyError('k'))",
        """
        assert xb_all[0].filename == 'name' and isinstance(xb_all[0], FileNotFoundError) and xb_all[1].reason == 'bad'
        assert xb_all[2].value == 5 and xb_all[3].pos == 1 and isinstance(xb_all[3], json.JSONDecodeError)
        assert str(xb_all[4]) == "'k'"
        """,
    ),
    Kind(
        "exception group",
        "xg_group = ExceptionGroup('several', [ValueError(1), ExceptionGroup('inner', [TypeError(2)])])",
        "xg_group.add_note('noted')",
        """
        xg_match, xg_rest = xg_group.split(TypeError)
        assert xg_match.exceptions[0].exceptions[0].args == (2,) and xg_rest.exceptions[0].args == (1,)
        assert xg_group.message == 'several' and xg_group.__notes__ == ['noted']
        """,
    ),
    Kind(
        "process that has ended",
        "import subprocess\npe_process = subprocess.Popen(['sh', '-c', 'exit 3']); pe_code = pe_process.wait()",
        "pe_done = subprocess.run(['echo', 'hi'], capture_output=True, text=True)",
        """
        assert pe_code == 3 and pe_done.stdout == 'hi\\n' and pe_done.returncode == 0
        assert pe_process.returncode == 3 and pe_process.poll() == 3
        """,
    ),
    Kind(
        "temporary directory",
        "import tempfile, os\ntmp_folder = tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True)",
        "tmp_name = tmp_folder.name",
        """
        assert tmp_folder.name == tmp_name and isinstance(tmp_folder, tempfile.TemporaryDirectory)
        tmp_folder.cleanup()
        assert not os.path.exists(tmp_name)
        """,
    ),
    Kind(
        "exit stack with callbacks",
        "import contextlib\nxs_log = []; xs_stack = contextlib.ExitStack(); xs_stack.callback(xs_log.append, 'first')",
        "xs_stack.callback(xs_log.append, 'second')",
        "xs_stack.close()\nassert xs_log == ['second', 'first']",
    ),
    Kind(
        "argument parser",
        """
        import argparse
        ap_parser = argparse.ArgumentParser('ap'); ap_parser.add_argument('--size', type=int, default=3)
        """,
        "ap_parser.add_argument('names', nargs='*')",
        """
        assert vars(ap_parser.parse_args(['--size', '4', 'x'])) == {'size': 4, 'names': ['x']}
        ap_parser.add_argument('-v', action='store_true')
        assert ap_parser.parse_args(['-v']).v and ap_parser.parse_args([]).size == 3
        """,
    ),
    Kind(
        "configparser",
        """
        import configparser
        cfg_config = configparser.ConfigParser(); cfg_config.read_string('[a]\\nx = 1\\ny = %(x)s2\\n')
        """,
        "cfg_config['b'] = {'z': 'yes'}",
        """
        assert cfg_config['a']['y'] == '12' and cfg_config.getboolean('b', 'z') and cfg_config.sections() == ['a', 'b']
        cfg_config['a']['x'] = '7'
        assert cfg_config['a']['y'] == '72'
        """,
    ),
    Kind(
        "ElementTree",
        """
        import xml.etree.ElementTree as ET
        et_tree = ET.ElementTree(ET.fromstring('<a><b n="1">text</b></a>')); et_b = et_tree.find('b')
        """,
        "et_b.set('n', '2'); ET.SubElement(et_tree.getroot(), 'c').tail = 'tail'",
        """
        assert ET.tostring(et_tree.getroot()) == b'<a><b n="2">text</b><c />tail</a>'
        et_b.text = 'new'
        assert et_tree.findtext('b') == 'new'
        """,
    ),
    Kind(
        "minidom document",
        "import xml.dom.minidom\nmd_doc = xml.dom.minidom.parseString('<a><b/></a>')",
        "md_doc.documentElement.setAttribute('k', 'v')",
        """
        assert md_doc.documentElement.toxml() == '<a k="v"><b/></a>'
        assert md_doc.getElementsByTagName('b')[0].parentNode is md_doc.documentElement
        """,
    ),
    Kind(
        "email message",
        """
        from email.message import EmailMessage
        em_mail = EmailMessage(); em_mail['Subject'] = 'Grüße'; em_mail.set_content('hello')
        """,
        "em_mail.add_attachment(b'data', maintype='application', subtype='x', filename='f.bin')",
        """
        assert em_mail['subject'] == 'Grüße' and em_mail.is_multipart()
        assert next(em_mail.iter_attachments()).get_content() == b'data'
        em_mail['To'] = 'a@example.org'
        assert 'To: a@example.org' in em_mail.as_string()
        """,
    ),
    Kind(
        "JSON encoder and decoder",
        """
        import json

        class JeEncoder(json.JSONEncoder):
            def default(self, o):
                return sorted(o) if isinstance(o, set) else super().default(o)

        je_encoder = JeEncoder(indent=None, sort_keys=True); je_decoder = json.JSONDecoder(parse_float=str)
        """,
        "je_encoder.indent = 1",
        """
        assert je_encoder.encode({'b': {2, 1}}) == '{\\n "b": [\\n  1, \\n  2\\n ]\\n}'
        assert je_decoder.decode('[1.50]') == ['1.50']
        """,
    ),
    Kind(
        "csv dialect and rows",
        """
        import csv, io

        class CsDialect(csv.excel):
            delimiter = ';'

        cs_rows = list(csv.DictReader(io.StringIO('a;b\\n1;2\\n'), dialect=CsDialect))
        """,
        "cs_rows.append({'a': '3', 'b': '4;'})",
        """
        cs_out = io.StringIO()
        csv.DictWriter(cs_out, ['a', 'b'], dialect=CsDialect).writerows(cs_rows)
        assert cs_out.getvalue() == '1;2\\r\\n3;"4;"\\r\\n'
        """,
    ),
    Kind(
        "SequenceMatcher and Differ",
        "import difflib\ndif_matcher = difflib.SequenceMatcher(None, 'abcd', 'bcde'); dif_matcher.ratio()",
        "dif_matcher.set_seq2('abxx')",
        """
        assert dif_matcher.ratio() == 0.5 and dif_matcher.find_longest_match().size == 2
        assert list(difflib.Differ().compare(['a'], ['a'])) == ['  a']
        """,
    ),
    Kind(
        "cookies",
        "from http.cookies import SimpleCookie\ncok_jar = SimpleCookie('a=1'); cok_jar['a']['path'] = '/'",
        "cok_jar['b'] = 'two words'",
        """
        assert cok_jar['a']['path'] == '/' and cok_jar['b'].value == 'two words'
        cok_jar['c'] = '3'
        assert 'Set-Cookie: a=1; Path=/' in cok_jar.output()
        """,
    ),
    Kind(
        "calendar and text wrapper",
        """
        import calendar, textwrap
        cal_calendar = calendar.TextCalendar(); cal_wrapper = textwrap.TextWrapper(width=10)
        """,
        "cal_calendar.setfirstweekday(6); cal_wrapper.initial_indent = '* '",
        """
        assert cal_calendar.formatweekheader(2).startswith('Su') and next(cal_calendar.iterweekdays()) == 6
        assert cal_wrapper.wrap('aaaa bbbb cccc') == ['* aaaa', 'bbbb cccc']
        """,
    ),
    Kind(
        "topological sorter under way",
        "import graphlib\ngl_sorter = graphlib.TopologicalSorter({'c': {'b'}, 'b': {'a'}})",
        "gl_sorter.prepare(); gl_first = gl_sorter.get_ready()",
        """
        assert gl_first == ('a',)
        gl_sorter.done('a')
        assert gl_sorter.get_ready() == ('b',) and gl_sorter.is_active()
        """,
    ),
    Kind(
        "HTML parser with state",
        """
        from html.parser import HTMLParser

        class HpLinks(HTMLParser):
            def __init__(self):
                super().__init__()
                self.links = []

            def handle_starttag(self, tag, attrs):
                self.links.extend(value for name, value in attrs if name == 'href')

        hp_parser = HpLinks(); hp_parser.feed('<a href="one">x</a><a hr')
        """,
        "hp_parser.feed('ef=\"two\"><a hre')",
        """
        assert hp_parser.links == ['one', 'two']
        hp_parser.feed('f="three">')
        assert hp_parser.links[-1] == 'three'
        """,
    ),
    Kind(
        "weak set and its member",
        """
        import weakref

        class WsItem:
            pass

        ws_item = WsItem(); ws_set = weakref.WeakSet([ws_item])
        """,
        "ws_other = WsItem(); ws_set.add(ws_other)",
        """
        assert len(ws_set) == 2 and ws_item in ws_set and ws_other in ws_set
        del ws_other
        import gc; gc.collect()
        assert list(ws_set) == [ws_item]
        """,
    ),
    Kind(
        "itertools that are plain to continue",
        """
        import itertools
        itc_count = itertools.count(10, 5); next(itc_count); itc_cycle = itertools.cycle('ab'); next(itc_cycle)
        """,
        "itc_value = next(itc_count)",
        """
        assert itc_value == 15 and next(itc_count) == 20
        assert [next(itc_cycle) for _ in range(3)] == ['b', 'a', 'b']
        """,
    ),
    Kind(
        "ctypes numbers, arrays and structures",
        """
        import ctypes

        class CyPoint(ctypes.Structure):
            _fields_ = [('x', ctypes.c_int), ('y', ctypes.c_double)]

        cy_int = ctypes.c_int(5); cy_array = (ctypes.c_int * 3)(1, 2, 3); cy_point = CyPoint(1, 2.5)
        """,
        "cy_int.value += 1; cy_array[0] = 10; cy_point.x = 7",
        """
        assert cy_int.value == 6 and list(cy_array) == [10, 2, 3] and (cy_point.x, cy_point.y) == (7, 2.5)
        assert isinstance(cy_point, CyPoint) and CyPoint(3).x == 3
        cy_array[1] = 9
        assert list(cy_array) == [10, 9, 3]
        """,
    ),
    Kind(
        "standard output and the shell in variables",
        "import sys\nso_out = sys.stdout; so_shell = get_ipython()",
        "so_out.write(''); so_pair = [so_out, so_shell]",
        """
        print('alive', file=so_out)
        assert so_pair[0] is so_out and so_shell is get_ipython() and so_shell.user_ns['so_pair'] is so_pair
        """,
    ),
    Kind(
        "chunked compression, finished",
        "import zlib, gzip, bz2\nzl_data = zlib.compress(b'abc' * 100)",
        "zl_data = [zl_data, gzip.compress(b'g', mtime=0), bz2.compress(b'b')]",
        """
        assert zlib.decompress(zl_data[0]) == b'abc' * 100 and gzip.decompress(zl_data[1]) == b'g'
        assert bz2.decompress(zl_data[2]) == b'b'
        """,
    ),
    Kind(
        "scheduler with things to do",
        """
        import sched
        sch_log = []; sch_now = 0

        def sch_clock():
            return sch_now

        sch_scheduler = sched.scheduler(sch_clock, lambda seconds: None)
        sch_scheduler.enterabs(0, 1, sch_log.append, ('a',))
        """,
        "sch_event = sch_scheduler.enterabs(0, 2, sch_log.append, ('b',))",
        """
        assert len(sch_scheduler.queue) == 2
        sch_scheduler.run()
        assert sch_log == ['a', 'b'] and sch_scheduler.empty()
        """,
    ),
    Kind(
        "closed files",
        """
        with open(scratch / 'clf.txt', 'w', encoding='utf-8') as clf_out:
            clf_out.write('text')
        with open(scratch / 'clf.txt', 'rb') as clf_in:
            clf_data = clf_in.read()
        """,
        "clf_all = [clf_out, clf_in, clf_data.decode()]",
        """
        assert clf_out.closed and clf_in.closed
        assert str(clf_out.name) == str(scratch / 'clf.txt')
        assert clf_out.mode == 'w' and clf_in.mode == 'rb' and clf_out.encoding == 'utf-8' and clf_all[0] is clf_out
        try:
            clf_in.read()
        except ValueError as clf_error:
            clf_why = str(clf_error)
        assert 'closed' in clf_why and clf_all[2] == 'text'
        """,
    ),
    Kind(
        "match of a pattern",
        """
        import re
        rem_all = [re.search(r'(?P<n>\\d+)-(\\w)?', 'a 12- b'), re.fullmatch('a|ab', 'ab')]
        rem_all += list(re.finditer(r'(?<=,)\\w', 'x,y,z'))
        """,
        "rem_all.append(re.compile('B', re.I).match('abc', 1, 2)); rem_none = re.match('x', 'y')",
        """
        assert rem_all[0]['n'] == '12' and rem_all[0].groups() == ('12', None) and rem_all[0].span() == (2, 5)
        assert rem_all[1][0] == 'ab' and [m.start() for m in rem_all[2:4]] == [2, 4] and rem_none is None
        assert rem_all[4][0] == 'b' and (rem_all[4].pos, rem_all[4].endpos) == (1, 2) and rem_all[0].string == 'a 12- b'
        assert rem_all[0].expand(r'<\\g<n>>') == '<12>' and isinstance(rem_all[0], re.Match)
        """,
    ),
    Kind(
        "weak references",
        """
        import weakref

        class WrfNode:
            pass

        wrf_node = WrfNode(); wrf_ref = weakref.ref(wrf_node); wrf_dead = weakref.ref(WrfNode())
        wrf_map = weakref.WeakValueDictionary(node=wrf_node); wrf_notes = weakref.WeakKeyDictionary({wrf_node: ['a']})
        """,
        "wrf_other = WrfNode(); wrf_map['other'] = wrf_other; wrf_notes[wrf_node].append('b')",
        """
        assert wrf_ref() is wrf_node and wrf_map['node'] is wrf_node and wrf_notes[wrf_node] == ['a', 'b']
        assert wrf_dead() is None and sorted(wrf_map) == ['node', 'other']
        del wrf_other
        import gc; gc.collect()
        assert list(wrf_map) == ['node'] and len(wrf_notes) == 1
        """,
    ),
    Kind(
        "object that refers to its parent weakly",
        """
        import weakref

        class WpaLeaf:
            def __init__(self, parent):
                self.parent = weakref.ref(parent)

        class WpaTree:
            def __init__(self):
                self.leaves = [WpaLeaf(self)]

        wpa_tree = WpaTree(); wpa_leaf = wpa_tree.leaves[0]
        """,
        "wpa_tree.leaves.append(WpaLeaf(wpa_tree)); wpa_leaf.mark = 1",
        """
        assert wpa_leaf.parent() is wpa_tree and wpa_tree.leaves[0] is wpa_leaf and wpa_leaf.mark == 1
        assert wpa_tree.leaves[1].parent() is wpa_tree
        """,
    ),
    Kind(
        "views of a dict",
        "dvw_map = {'a': 1}; dvw_keys = dvw_map.keys(); dvw_items = dvw_map.items(); dvw_values = dvw_map.values()",
        "dvw_map['b'] = 2",
        """
        assert list(dvw_keys) == ['a', 'b'] and list(dvw_values) == [1, 2]
        dvw_map['c'] = 3
        assert 'c' in dvw_keys and ('c', 3) in dvw_items and len(dvw_values) == 3
        """,
    ),
    Kind(
        "read-only view of a dict",
        "import types\nmpx_map = {'a': 1}; mpx_view = types.MappingProxyType(mpx_map)",
        "mpx_map['b'] = 2",
        """
        assert mpx_view == {'a': 1, 'b': 2} and isinstance(mpx_view, types.MappingProxyType)
        mpx_map['c'] = 3
        assert mpx_view['c'] == 3
        """,
    ),
    Kind(
        "archive that is being read",
        """
        import zipfile
        with zipfile.ZipFile(scratch / 'zip.zip', 'w') as zip_out:
            zip_out.writestr('a.txt', 'first'); zip_out.writestr('b.txt', 'second')
        zip_in = zipfile.ZipFile(scratch / 'zip.zip')
        """,
        "zip_first = zip_in.read('a.txt')",
        """
        assert zip_first == b'first' and zip_in.namelist() == ['a.txt', 'b.txt'] and zip_in.read('b.txt') == b'second'
        zip_in.close()
        """,
    ),
    Kind(
        "future that is done",
        "from concurrent.futures import Future\nfut_done = Future(); fut_failed = Future(); fut_done.set_result([1])",
        "fut_done.result().append(2); fut_failed.set_exception(ValueError('no'))",
        """
        assert fut_done.result() == [1, 2] and fut_failed.exception().args == ('no',)
        fut_seen = []
        fut_done.add_done_callback(fut_seen.append)
        assert fut_seen == [fut_done]
        """,
    ),
    Kind(
        "modules below others that are used by their full names",
        "import wsgiref.simple_server, xml.sax.saxutils",
        "import logging.handlers; sbm_text = xml.sax.saxutils.escape('<')",
        """
        assert sbm_text == '&lt;' and xml.sax.saxutils.unescape(sbm_text) == '<'
        assert wsgiref.simple_server.WSGIServer.__name__ == 'WSGIServer'
        assert issubclass(logging.handlers.QueueHandler, logging.Handler)
        """,
    ),
)
