"""Tables of polars and of Arrow."""

from __future__ import annotations

from .kind import Kind

_POLARS = ("polars",)
_ARROW = ("pyarrow",)

KINDS: tuple[Kind, ...] = (
    Kind(
        "polars frame, edited",
        """
        import polars as pl
        plf_frame = pl.DataFrame({'n': [1, 2, None], 's': ['a', 'b', 'c'], 'l': [[1], [], [2, 3]]})
        plf_alias = plf_frame
        """,
        "plf_frame[0, 'n'] = 10; plf_frame = plf_frame.with_columns(x=pl.col('n') * 2)",
        """
        assert plf_frame['n'].to_list() == [10, 2, None] and plf_frame['x'].to_list() == [20, 4, None]
        assert plf_frame['l'].list.len().to_list() == [1, 0, 2] and plf_alias.columns == ['n', 's', 'l']
        plf_frame[1, 's'] = 'new'
        assert plf_frame['s'].to_list() == ['a', 'new', 'c'] and plf_alias['n'][0] == 10
        """,
        _POLARS,
    ),
    Kind(
        "polars frame with two names, changed in place",
        """
        import polars as pl
        pli_frame = pl.DataFrame({'a': [1, 2]}); pli_same = pli_frame; pli_copy = pli_frame.clone()
        """,
        "pli_same.insert_column(1, pl.Series('b', [3, 4]))",
        """
        assert pli_frame is pli_same and pli_frame.columns == ['a', 'b'] and pli_copy.columns == ['a']
        pli_frame.extend(pl.DataFrame({'a': [5], 'b': [6]}))
        assert pli_same.height == 3 and pli_copy.height == 2
        """,
        _POLARS,
    ),
    Kind(
        "polars series",
        """
        import datetime, polars as pl
        pls_series = pl.Series('s', [1, 2, 3]); pls_days = pl.Series('d', [datetime.date(2024, 2, 29), None])
        """,
        """
        pls_series[1] = 20; pls_series = pls_series.alias('t')
        """,
        """
        assert pls_series.to_list() == [1, 20, 3] and pls_series.name == 't' and pls_days.dtype == pl.Date
        pls_series.append(pl.Series([4]))
        assert pls_series.len() == 4 and pls_days.dt.offset_by('1d')[0].day == 1
        """,
        _POLARS,
    ),
    Kind(
        "polars categories, structs and times",
        """
        import polars as pl
        plc_letters = pl.Series(['x', 'y', 'x'], dtype=pl.Categorical)
        plc_frame = pl.DataFrame({'c': plc_letters, 'st': [{'a': 1}, {'a': 2}, None]})
        plc_enum = pl.Series(['low'], dtype=pl.Enum(['low', 'high']))
        """,
        """
        plc_frame = plc_frame.with_columns(t=pl.lit('2024-01-01').str.to_datetime(time_zone='UTC'))
        plc_enum[0] = 'high'
        """,
        """
        assert plc_frame['c'].unique().len() == 2 and plc_frame['c'].to_list() == ['x', 'y', 'x']
        assert plc_frame['st'].struct.field('a').to_list() == [1, 2, None] and plc_frame['t'].dtype.time_zone == 'UTC'
        assert plc_enum.to_list() == ['high'] and plc_frame.group_by('c').len().height == 2
        """,
        _POLARS,
    ),
    Kind(
        "polars lazy frame",
        """
        import polars as pl
        plz_frame = pl.DataFrame({'k': ['a', 'b', 'a'], 'v': [1, 2, 3]}).lazy()
        plz_plan = plz_frame.filter(pl.col('v') > 1)
        """,
        "plz_plan = plz_plan.group_by('k').agg(pl.col('v').sum()).sort('k')",
        """
        assert plz_plan.collect().rows() == [('a', 3), ('b', 2)]
        assert plz_frame.with_columns(w=pl.col('v') + 1).collect()['w'].to_list() == [2, 3, 4]
        """,
        _POLARS,
    ),
    Kind(
        "polars expressions, data types and schema",
        """
        import polars as pl
        ple_expr = (pl.col('a') + 1).alias('b')
        ple_types = {'a': pl.Int8, 'd': pl.Datetime('us', 'UTC'), 'l': pl.List(pl.Utf8)}
        """,
        "ple_expr = ple_expr * 2; ple_schema = pl.Schema(ple_types)",
        """
        assert pl.DataFrame({'a': [1, 2]}).select(ple_expr)['b'].to_list() == [4, 6]
        assert ple_schema['l'] == pl.List(pl.String) and ple_types['a'] is pl.Int8 and ple_types['d'].time_zone == 'UTC'
        assert pl.DataFrame(schema=ple_schema).columns == ['a', 'd', 'l']
        """,
        _POLARS,
    ),
    Kind(
        "polars with a function of the notebook",
        """
        import polars as pl

        def plm_scale(n):
            return n * plm_by if n else None

        plm_by = 2; plm_frame = pl.DataFrame({'a': [1, 2]})
        plm_expr = pl.col('a').map_elements(plm_scale, return_dtype=pl.Int64)
        """,
        "plm_by = 5",
        """
        assert plm_frame.select(pl.col('a').map_elements(plm_scale, return_dtype=pl.Int64))['a'].to_list() == [5, 10]
        assert plm_frame.select(plm_expr).height == 2
        """,
        _POLARS,
    ),
    Kind(
        "Arrow table",
        """
        import pyarrow as pa
        pat_table = pa.table({'n': [1, 2, None], 's': ['a', 'b', 'c']}); pat_part = pat_table.slice(1)
        """,
        """
        pat_table = pat_table.append_column('x', pa.array([0.5, 1.5, 2.5])).replace_schema_metadata({'source': 'cell'})
        """,
        """
        assert pat_table['x'].to_pylist() == [0.5, 1.5, 2.5] and pat_table.schema.metadata == {b'source': b'cell'}
        assert pat_part.to_pydict() == {'n': [2, None], 's': ['b', 'c']}
        import pyarrow.compute as pc
        assert pat_table.filter(pc.field('n') > 1).num_rows == 1
        """,
        _ARROW,
    ),
    Kind(
        "Arrow arrays of every shape",
        """
        import pyarrow as pa
        paa_all = [pa.array([1, None, 3], pa.int16()), pa.array([[1], None, [2, 3]]), pa.array([{'a': 1}, {'a': None}])]
        paa_all.append(pa.array(['x', 'y', 'x']).dictionary_encode()); paa_all.append(pa.chunked_array([[1], [2, 3]]))
        """,
        "paa_all.append(paa_all[0].slice(1)); paa_all.append(pa.scalar(5, pa.int8()))",
        """
        assert paa_all[0].to_pylist() == [1, None, 3] and paa_all[1].to_pylist() == [[1], None, [2, 3]]
        assert paa_all[2].field('a').to_pylist() == [1, None] and paa_all[3].dictionary.to_pylist() == ['x', 'y']
        assert paa_all[4].num_chunks == 2 and paa_all[5].to_pylist() == [None, 3] and paa_all[6].as_py() == 5
        import pyarrow.compute as pc
        assert pc.sum(paa_all[4]).as_py() == 6 and paa_all[5].null_count == 1
        """,
        _ARROW,
    ),
    Kind(
        "Arrow record batches, schema and types",
        """
        import pyarrow as pa
        pab_time = pa.timestamp('us', 'UTC')
        pab_schema = pa.schema([pa.field('n', pa.int32(), nullable=False), ('t', pab_time)], metadata={'k': 'v'})
        pab_batch = pa.record_batch([pa.array([1], pa.int32()), pa.array([0], pab_time)], schema=pab_schema)
        """,
        """
        pab_types = {'decimal': pa.decimal128(10, 2), 'union': pa.struct([('a', pa.list_(pa.string()))])}
        pab_batches = [pab_batch] * 2
        """,
        """
        assert pab_schema.field('n').nullable is False and pab_schema.metadata == {b'k': b'v'}
        assert pab_batch.num_rows == 1
        assert pa.Table.from_batches(pab_batches).num_rows == 2 and pab_batch.schema.equals(pab_schema)
        assert pab_types['decimal'].precision == 10 and pab_types['union'].field('a').type == pa.list_(pa.string())
        """,
        _ARROW,
    ),
    Kind(
        "Arrow data set and expression",
        """
        import pyarrow as pa, pyarrow.dataset, pyarrow.parquet
        pa.parquet.write_table(pa.table({'n': [1, 2, 3]}), scratch / 'pad.parquet')
        pad_set = pa.dataset.dataset(scratch / 'pad.parquet'); pad_over = pa.dataset.field('n') > 1
        """,
        "pad_count = pad_set.count_rows(); pad_over = pad_over & (pa.dataset.field('n') < 3)",
        """
        assert pad_count == 3 and pad_set.to_table(filter=pad_over)['n'].to_pylist() == [2]
        assert pad_set.schema.names == ['n']
        """,
        _ARROW,
    ),
    Kind(
        "Arrow buffer",
        "import pyarrow as pa\npau_buffer = pa.py_buffer(b'0123456789'); pau_slice = pau_buffer.slice(2, 3)",
        "pau_pair = [pau_buffer, pau_slice]",
        "assert pau_slice.to_pybytes() == b'234' and pau_pair[0].size == 10 and bytes(pau_pair[1]) == b'234'",
        _ARROW,
    ),
)
