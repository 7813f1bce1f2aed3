"""What cannot be saved, and what has to be restored although it is next to it."""

from __future__ import annotations

from .kind import Kind

KINDS: tuple[Kind, ...] = (
    Kind(
        "generator that runs",
        "def gnr_count(stop):\n    for n in range(stop):\n        yield n\n\ngnr_run = gnr_count(5); gnr_seen = []",
        "gnr_seen.append(next(gnr_run)); gnr_rest = (n for n in gnr_seen)",
        """
        expect_gone('gnr_run'); expect_gone('gnr_rest')
        assert gnr_seen == [0]
        gnr_run = gnr_count(2)
        assert list(gnr_run) == [0, 1]
        """,
        unsaved=("gnr_run", "gnr_rest"),
    ),
    Kind(
        "asynchronous generator that runs, and a task",
        """
        import asyncio

        async def agn_count():
            for n in range(3):
                yield n

        agn_run = agn_count(); agn_first = await anext(agn_run)
        """,
        "agn_task = asyncio.ensure_future(asyncio.sleep(600)); agn_first += 10",
        """
        expect_gone('agn_run'); expect_gone('agn_task')
        assert agn_first == 10 and [n async for n in agn_count()] == [0, 1, 2]
        """,
        unsaved=("agn_run", "agn_task"),
    ),
    Kind(
        "files open for writing",
        """
        import tempfile
        fow_text = open(scratch / 'fow.txt', 'w'); fow_append = open(scratch / 'fow.bin', 'ab')
        fow_temporary = tempfile.NamedTemporaryFile(dir=scratch)
        """,
        "fow_text.write('written'); fow_text.flush(); fow_count = 1",
        """
        for fow_name in ('fow_text', 'fow_append', 'fow_temporary'):
            expect_gone(fow_name)
        assert fow_count == 1 and (scratch / 'fow.txt').read_text() == 'written'
        """,
        unsaved=("fow_text", "fow_append", "fow_temporary"),
    ),
    Kind(
        "sockets",
        "import socket\nsoc_here, soc_there = socket.socketpair(); soc_log = []",
        "soc_here.send(b'x'); soc_log.append(soc_there.recv(1))",
        "expect_gone('soc_here'); expect_gone('soc_there')\nassert soc_log == [b'x']",
        unsaved=("soc_here", "soc_there"),
    ),
    Kind(
        "database connection and what was read with it",
        """
        import sqlite3
        sql_connection = sqlite3.connect(scratch / 'sql.db'); sql_cursor = sql_connection.execute('create table t (n)')
        """,
        """
        sql_connection.execute('insert into t values (5)'); sql_connection.commit()
        sql_rows = sql_connection.execute('select * from t').fetchall()
        """,
        """
        expect_gone('sql_connection'); expect_gone('sql_cursor')
        assert sql_rows == [(5,)] and sqlite3.connect(scratch / 'sql.db').execute('select n from t').fetchone() == (5,)
        """,
        unsaved=("sql_connection", "sql_cursor"),
    ),
    Kind(
        "list that a thread fills, and what the thread waits for",
        """
        import threading
        thr_stop = threading.Event(); thr_list = []

        def thr_work():
            thr_list.append('begun')
            thr_stop.wait(600)

        thr_thread = threading.Thread(target=thr_work, daemon=True); thr_thread.start()
        """,
        "thr_list.append('changed')",
        """
        assert thr_list == ['begun', 'changed'] and not thr_stop.is_set()
        thr_stop.set()
        thr_work()
        assert thr_list[2:] == ['begun']
        """,
    ),
    Kind(
        "locks that are held",
        """
        import threading
        hld_lock = threading.Lock(); hld_lock.acquire(); hld_rlock = threading.RLock(); hld_rlock.acquire()
        """,
        "hld_count = [1]; hld_object = {'lock': hld_lock, 'count': hld_count}",
        "for hld_name in ('hld_lock', 'hld_rlock', 'hld_object'):\n    expect_gone(hld_name)\nassert hld_count == [1]",
        unsaved=("hld_lock", "hld_rlock", "hld_object"),
    ),
    Kind(
        "pool of threads, and a future that is not done",
        """
        from concurrent.futures import Future, ThreadPoolExecutor
        exe_pool = ThreadPoolExecutor(1); exe_future = Future()
        """,
        "exe_result = exe_pool.submit(sum, [1, 2]).result()",
        "expect_gone('exe_pool')\nassert exe_result == 3",
        unsaved=("exe_pool",),
    ),
    Kind(
        "process that runs",
        "import subprocess\nprc_process = subprocess.Popen(['sleep', '600'])",
        "prc_pid = prc_process.pid",
        "expect_gone('prc_process')\nassert prc_pid > 0",
        unsaved=("prc_process",),
    ),
    Kind(
        "memory of others",
        """
        import mmap
        mem_bytes = bytearray(b'0123'); mem_view = memoryview(mem_bytes)[1:]
        mem_map = mmap.mmap(-1, 16)
        """,
        "mem_view[0] = ord('x')",
        "expect_gone('mem_view'); expect_gone('mem_map')\nassert mem_bytes == b'0x23'",
        unsaved=("mem_view", "mem_map"),
    ),
    Kind(
        "hashes and compressors under way",
        "import hashlib, zlib\nhsh_hash = hashlib.sha256(b'a'); hsh_zip = zlib.compressobj()",
        "hsh_hash.update(b'b'); hsh_text = hsh_hash.hexdigest()",
        "expect_gone('hsh_hash'); expect_gone('hsh_zip')\nassert hsh_text == hashlib.sha256(b'ab').hexdigest()",
        unsaved=("hsh_hash", "hsh_zip"),
    ),
    Kind(
        "traceback and frame",
        """
        def trb_fail():
            trb_local = 1
            raise ValueError('x')

        try:
            trb_fail()
        except ValueError as trb_caught:
            trb_error = trb_caught; trb_traceback = trb_caught.__traceback__; trb_frame = trb_traceback.tb_next.tb_frame
        """,
        "trb_error.add_note('noted')",
        """
        expect_gone('trb_traceback'); expect_gone('trb_frame')
        assert trb_error.__notes__ == ['noted'] and trb_error.args == ('x',)
        """,
        unsaved=("trb_traceback", "trb_frame"),
    ),
    Kind(
        "object that holds what cannot be saved, and what it shares",
        """
        class HolReader:
            def __init__(self, rows):
                self.rows, self.source = rows, (row for row in rows)

        hol_rows = [[1], [2]]; hol_reader = HolReader(hol_rows); hol_first = hol_rows[0]
        """,
        "hol_rows.append([3]); hol_first.append('shared')",
        """
        expect_gone('hol_reader')
        assert hol_rows == [[1, 'shared'], [2], [3]] and hol_rows[0] is hol_first
        hol_reader = HolReader(hol_rows)
        assert next(hol_reader.source) is hol_first
        """,
        unsaved=("hol_reader",),
    ),
    Kind(
        "class that cannot be saved, and its instance",
        "class BrkBase:\n    stream = (n for n in range(3))\n\nbrk_thing = BrkBase(); brk_list = [1]",
        "brk_list.append(2); brk_both = [brk_thing]",
        "for brk_name in ('BrkBase', 'brk_thing', 'brk_both'):\n    expect_gone(brk_name)\nassert brk_list == [1, 2]",
        unsaved=("BrkBase", "brk_thing", "brk_both"),
    ),
    Kind(
        "function that carries what cannot be saved",
        """
        def fnc_make(source):
            def fnc_next():
                return next(source)
            return fnc_next

        fnc_next = fnc_make(iter(n for n in range(9))); fnc_plain = lambda: fnc_number; fnc_number = 1
        """,
        "fnc_next(); fnc_number = 2",
        "expect_gone('fnc_next')\nassert fnc_plain() == 2 and fnc_make(iter([5]))() == 5",
        unsaved=("fnc_next",),
    ),
    Kind(
        "object that refuses to be pickled",
        """
        class RefSecret:
            def __reduce__(self):
                raise TypeError('never written down')

        ref_secret = RefSecret(); ref_list = [0]
        """,
        "ref_list.append(1)",
        """
        expect_gone('ref_secret')
        assert ref_list == [0, 1] and 'never written down' in repr(ref_secret) and isinstance(RefSecret(), RefSecret)
        """,
        unsaved=("ref_secret",),
    ),
    Kind(
        "object that ends the process that pickles it",
        """
        import os

        class EndBomb:
            def __reduce__(self):
                os._exit(3)

        end_bomb = EndBomb(); end_list = [0]
        """,
        "end_list.append(1)",
        "expect_gone('end_bomb')\nassert end_list == [0, 1] and isinstance(EndBomb(), EndBomb)",
        unsaved=("end_bomb",),
    ),
    Kind(
        "readers of the library",
        """
        import csv, io, os
        rdr_csv = csv.reader(io.StringIO('a,b')); rdr_folder = os.scandir(scratch); rdr_rows = []
        """,
        "rdr_rows += list(rdr_csv)",
        "expect_gone('rdr_csv'); expect_gone('rdr_folder')\nassert rdr_rows == [['a', 'b']]",
        unsaved=("rdr_csv", "rdr_folder"),
    ),
    Kind(
        "variable of a context, and of a thread",
        """
        import contextvars, threading
        cvr_var = contextvars.ContextVar('cvr_var', default=1); cvr_local = threading.local(); cvr_n = 1
        """,
        "cvr_token = cvr_var.set(2); cvr_local.x = 3; cvr_n += 1",
        "for cvr_name in ('cvr_var', 'cvr_local', 'cvr_token'):\n    expect_gone(cvr_name)\nassert cvr_n == 2",
        unsaved=("cvr_var", "cvr_local", "cvr_token"),
    ),
    Kind(
        "variable that holds what could be saved before",
        "was_it = [1]; was_not = (n for n in range(3))",
        "was_it = (n for n in range(3)); was_not = [2]",
        "expect_gone('was_it')\nassert was_not == [2]\nwas_it = 5\nassert was_it == 5",
        unsaved=("was_it",),
    ),
)
