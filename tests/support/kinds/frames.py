"""Frames, series and indexes of pandas."""

from __future__ import annotations

from .kind import Kind

_PANDAS = ("pandas",)
_PANDAS_AND_ARROW = ("pandas", "pyarrow")

KINDS: tuple[Kind, ...] = (
    Kind(
        "frame of numbers and text, edited in place",
        """
        import pandas as pd
        pda_frame = pd.DataFrame({'n': [1, 2, 3], 'x': [0.5, 1.5, 2.5], 's': ['a', 'b', None]})
        pda_frame['b'] = [True, False, True]
        """,
        "pda_frame.loc[1, 'n'] = 20; pda_frame.at[0, 's'] = 'new'; pda_frame['y'] = pda_frame['x'] * 2",
        """
        assert pda_frame['n'].tolist() == [1, 20, 3] and pda_frame['s'][0] == 'new' and pda_frame['s'].isna()[2]
        assert pda_frame['y'].tolist() == [1, 3, 5] and list(pda_frame) == ['n', 'x', 's', 'b', 'y']
        pda_frame.loc[0, 'x'] = 9
        assert pda_frame['x'].sum() == 13 and pda_frame['y'][0] == 1
        """,
        _PANDAS,
    ),
    Kind(
        "large frame of which one value changes",
        "import numpy as np, pandas as pd\npdl_frame = pd.DataFrame(np.zeros((50_000, 4)), columns=list('abcd'))",
        "pdl_frame.iloc[40_000, 2] = 5.0",
        """
        assert pdl_frame.iloc[40_000, 2] == 5 and pdl_frame.to_numpy().sum() == 5 and pdl_frame.shape == (50_000, 4)
        pdl_frame.loc[0, 'a'] = 1.0
        assert pdl_frame['a'].sum() == 1
        """,
        _PANDAS,
    ),
    Kind(
        "frame with two names",
        """
        import pandas as pd
        pdt_frame = pd.DataFrame({'a': [1, 2]}); pdt_alias = pdt_frame; pdt_box = {'frame': pdt_frame}
        """,
        "pdt_alias['b'] = [3, 4]",
        """
        assert pdt_frame is pdt_alias and pdt_box['frame'] is pdt_frame and pdt_frame['b'].tolist() == [3, 4]
        pdt_frame.loc[0, 'a'] = 10
        assert pdt_alias['a'][0] == 10 and pdt_box['frame']['a'][0] == 10
        """,
        _PANDAS,
    ),
    Kind(
        "column and the frame it is from, copied on write",
        """
        import pandas as pd
        pdc_frame = pd.DataFrame({'a': [1, 2], 'b': [3, 4]}); pdc_column = pdc_frame['a']; pdc_part = pdc_frame.iloc[:1]
        """,
        "pdc_column.iloc[0] = 100",
        """
        assert pdc_frame['a'].tolist() == [1, 2] and pdc_column.tolist() == [100, 2]
        pdc_frame.loc[0, 'b'] = 30
        assert pdc_part['b'].tolist() == [3] and pdc_frame['b'].tolist() == [30, 4]
        pdc_part.iloc[0, 0] = 7
        assert pdc_frame.loc[0, 'a'] == 1 and pdc_part.loc[0, 'a'] == 7
        """,
        _PANDAS,
    ),
    Kind(
        "parts, copies and indexes that share memory with a frame until one is written to",
        """
        import pandas as pd
        pdh_frame = pd.DataFrame({'x': [1.0, 2.0], 'y': [3.0, 4.0]}); pdh_part = pdh_frame[['x']]
        pdh_copy = pdh_frame.copy(deep=False); pdh_index = pd.Index(pdh_frame['y']); pdh_kept = pdh_frame['y']
        """,
        "pdh_copy.loc[1, 'x'] = 20",
        """
        pdh_frame.loc[0, 'x'] = 10; pdh_kept.iloc[0] = 30
        assert pdh_frame['x'].tolist() == [10, 2] and pdh_part['x'].tolist() == [1, 2]
        assert pdh_copy['x'].tolist() == [1, 20] and pdh_index.tolist() == [3, 4] and pdh_frame['y'].tolist() == [3, 4]
        pdh_frame['y'] += 1
        assert pdh_copy['y'].tolist() == [3, 4] and pdh_kept.tolist() == [30, 4] and pdh_index.get_loc(3.0) == 0
        """,
        _PANDAS,
    ),
    Kind(
        "columns that are edited after they were cut from a frame",
        """
        import pandas as pd
        pde_frame = pd.DataFrame({'a': range(5), 'b': range(5)})
        pde_parts = [pde_frame[['a']], pde_frame[1:3], pde_frame.copy()]
        """,
        "pde_frame['a'] += 10; pde_parts[1].loc[1, 'b'] = -1",
        """
        assert pde_parts[0]['a'].tolist() == [0, 1, 2, 3, 4] and pde_parts[1]['b'].tolist() == [-1, 2]
        assert pde_frame['a'].tolist() == [10, 11, 12, 13, 14] and pde_frame['b'][1] == 1
        pde_parts[0].loc[0, 'a'] = 5; pde_parts[2].loc[4, 'b'] = 0
        assert pde_frame['a'][0] == 10 and pde_frame['b'][4] == 4
        """,
        _PANDAS,
    ),
    Kind(
        "text in columns of objects, of strings and of Arrow",
        """
        import pandas as pd
        pds_frame = pd.DataFrame({'o': pd.Series(['a', 1, None], dtype=object)})
        pds_frame['s'] = pd.Series(['a', 'b', None], dtype='string')
        pds_frame['w'] = pd.array(['x', 'yy', None], dtype='string[pyarrow]')
        """,
        "pds_frame.loc[0, 'w'] = 'changed'; pds_frame.loc[2, 's'] = 'filled'; pds_frame.loc[0, 'o'] = 5.5",
        """
        assert pds_frame['w'].str.len().tolist()[:2] == [7, 2] and pds_frame['s'].tolist() == ['a', 'b', 'filled']
        assert pds_frame['o'].tolist() == [5.5, 1, None] and pds_frame['w'].isna()[2]
        assert pds_frame.dtypes['w'] == 'string' and pds_frame.dtypes['o'] == object
        pds_frame.loc[2, 'w'] = 'z'
        assert pds_frame['w'].str.upper().tolist() == ['CHANGED', 'YY', 'Z']
        """,
        _PANDAS_AND_ARROW,
    ),
    Kind(
        "categories",
        """
        import pandas as pd
        pdg_size = pd.Series(pd.Categorical(['S', 'L'], categories=['S', 'M', 'L'], ordered=True))
        pdg_kind = pd.Series(list('aba'), dtype='category')
        """,
        "pdg_size = pdg_size.cat.add_categories(['XL']); pdg_size.iloc[0] = 'XL'",
        """
        assert pdg_size.max() == 'XL' and list(pdg_size.cat.categories) == ['S', 'M', 'L', 'XL']
        assert pdg_size.cat.ordered
        assert pdg_kind.cat.codes.tolist() == [0, 1, 0]
        pdg_kind.iloc[1] = 'a'
        assert pdg_kind.value_counts()['b'] == 0
        """,
        _PANDAS,
    ),
    Kind(
        "MultiIndex in rows and columns",
        """
        import pandas as pd
        pdm_index = pd.MultiIndex.from_product([['x', 'y'], [1, 2]], names=['letter', 'number'])
        pdm_frame = pd.DataFrame({('a', 'one'): range(4), ('b', 'two'): range(4)}, index=pdm_index)
        """,
        "pdm_frame.loc[('y', 1), ('a', 'one')] = 50; pdm_frame[('b', 'three')] = 1.5",
        """
        assert pdm_frame.loc['y', ('a', 'one')].tolist() == [50, 3]
        assert pdm_frame['b'].columns.tolist() == ['two', 'three']
        assert pdm_frame.index.names == ['letter', 'number'] and pdm_frame.groupby('letter').sum().iloc[1, 0] == 53
        pdm_frame.loc[('x', 2), ('b', 'two')] = -1
        assert pdm_frame.xs(2, level='number')[('b', 'two')].tolist() == [-1, 3]
        """,
        _PANDAS,
    ),
    Kind(
        "dates with a zone, periods, intervals and differences",
        """
        import pandas as pd
        pdd_frame = pd.DataFrame({'when': pd.date_range('2024-03-30', periods=3, tz='Europe/Berlin')})
        pdd_frame['month'] = pd.period_range('2024-01', periods=3, freq='M')
        pdd_frame['bin'] = pd.cut([1, 5, 9], [0, 4, 10])
        """,
        "pdd_frame['gap'] = pdd_frame['when'].diff(); pdd_frame.loc[0, 'month'] = pd.Period('2023-12')",
        """
        assert str(pdd_frame['when'].dt.tz) == 'Europe/Berlin' and pdd_frame['gap'][2] == pd.Timedelta(hours=23)
        assert pdd_frame['month'][0] + 2 == pdd_frame['month'][1] and 5 in pdd_frame['bin'][1]
        pdd_frame.loc[0, 'when'] = pd.Timestamp('2024-01-01', tz='Europe/Berlin')
        assert pdd_frame['when'].min().month == 1 and pdd_frame['when'].dt.tz_convert('UTC')[0].hour == 23
        """,
        _PANDAS,
    ),
    Kind(
        "index of dates with its frequency",
        """
        import pandas as pd
        pdx_series = pd.Series(range(4), index=pd.date_range('2024-01-01', periods=4, freq='D'), name='daily')
        """,
        "pdx_series['2024-01-02'] = 100; pdx_series.name = 'days'",
        """
        assert pdx_series.index.freqstr == 'D' and pdx_series.name == 'days' and pdx_series['2024-01-02'] == 100
        assert pdx_series.resample('2D').sum().tolist() == [100, 5] and pdx_series.shift(1, freq='D').index[0].day == 2
        """,
        _PANDAS,
    ),
    Kind(
        "sparse columns",
        "import pandas as pd\npdp_frame = pd.DataFrame({'s': pd.arrays.SparseArray([0, 0, 3, 0])}); pdp_frame['d'] = 1",
        "pdp_frame['t'] = pdp_frame['s'] * 2",
        """
        assert pdp_frame['t'].sparse.density == 0.25 and pdp_frame['t'].tolist() == [0, 0, 6, 0]
        pdp_frame['d'] = pdp_frame['d'].astype('Sparse[int]')
        assert pdp_frame.sparse.to_dense().to_numpy().sum() == 13
        """,
        _PANDAS,
    ),
    Kind(
        "columns that may be missing",
        """
        import pandas as pd
        pdn_frame = pd.DataFrame({'i': pd.array([1, None], 'Int64'), 'b': pd.array([True, None], 'boolean')})
        pdn_frame['f'] = pd.array([1.5, None], 'Float32')
        """,
        "pdn_frame.loc[1, 'i'] = 2**53 + 1; pdn_frame.loc[0, 'b'] = pd.NA",
        """
        assert pdn_frame['i'][1] == 2**53 + 1 and pdn_frame['b'].isna().all() and pdn_frame['f'][1] is pd.NA
        assert [str(d) for d in pdn_frame.dtypes] == ['Int64', 'boolean', 'Float32']
        pdn_frame.loc[1, 'f'] = 2
        assert pdn_frame['f'].sum() == 3.5
        """,
        _PANDAS,
    ),
    Kind(
        "columns of Arrow's types",
        """
        import pandas as pd, pyarrow as pa
        pdw_frame = pd.DataFrame({'l': pd.Series([[1], [2, 3]], dtype=pd.ArrowDtype(pa.list_(pa.int64())))})
        pdw_frame['d'] = pd.Series([1, 2], dtype='int32[pyarrow]')
        """,
        "pdw_frame.loc[0, 'd'] = 10",
        """
        assert pdw_frame['d'].sum() == 12 and list(pdw_frame['l'][1]) == [2, 3]
        assert pdw_frame.dtypes['d'] == 'int32[pyarrow]' and pdw_frame['l'].list.len().tolist() == [1, 2]
        pdw_frame.loc[1, 'd'] = None
        assert pdw_frame['d'].isna().tolist() == [False, True]
        """,
        _PANDAS_AND_ARROW,
    ),
    Kind(
        "groups, windows and resamplers",
        """
        import pandas as pd
        pdr_frame = pd.DataFrame({'k': list('aab'), 'v': [1, 2, 3]}, index=pd.date_range('2024', periods=3))
        pdr_groups = pdr_frame.groupby('k'); pdr_window = pdr_frame['v'].rolling(2)
        pdr_weeks = pdr_frame[['v']].resample('W')
        """,
        "pdr_sums = pdr_groups['v'].sum()",
        """
        assert pdr_sums.tolist() == [3, 3] and pdr_groups.ngroups == 2
        assert pdr_groups.get_group('a')['v'].tolist() == [1, 2]
        assert pdr_window.sum().tolist()[1:] == [3, 5] and pdr_weeks.sum()['v'].sum() == 6
        assert [name for name, _ in pdr_groups] == ['a', 'b'] and pdr_groups['v'].apply(max).tolist() == [2, 3]
        """,
        _PANDAS,
    ),
    Kind(
        "series with one index",
        """
        import pandas as pd
        pdi_index = pd.Index(['x', 'y'], name='key'); pdi_one = pd.Series([1, 2], pdi_index)
        pdi_two = pd.Series([3, 4], pdi_index)
        """,
        "pdi_one['x'] = 10; pdi_sum = pdi_one + pdi_two",
        """
        assert pdi_sum.to_dict() == {'x': 13, 'y': 6} and pdi_one.index.equals(pdi_two.index)
        assert pdi_index.name == 'key'
        pdi_two.index = ['p', 'q']
        assert pdi_one.index.tolist() == ['x', 'y'] and pdi_two['q'] == 4
        """,
        _PANDAS,
    ),
    Kind(
        "attrs and flags of a frame",
        "import pandas as pd\npdf_frame = pd.DataFrame({'a': [1]}); pdf_frame.attrs['source'] = {'file': 'x'}",
        "pdf_frame.attrs['source']['line'] = 3; pdf_frame.flags.allows_duplicate_labels = False",
        """
        assert pdf_frame.attrs == {'source': {'file': 'x', 'line': 3}} and not pdf_frame.flags.allows_duplicate_labels
        pdf_frame.attrs['more'] = 1
        assert pdf_frame.copy().attrs['more'] == 1
        """,
        _PANDAS,
    ),
    Kind(
        "column of dicts that are variables too",
        """
        import pandas as pd
        pdo_record = {'n': 1}; pdo_frame = pd.DataFrame({'d': [pdo_record, {'n': 2}]}); pdo_list = [pdo_record]
        """,
        "pdo_frame['d'][0]['n'] = 10",
        """
        assert pdo_record == {'n': 10} and pdo_frame['d'][0] is pdo_record and pdo_list[0] is pdo_record
        pdo_record['m'] = 5
        assert pdo_frame['d'][0] == {'n': 10, 'm': 5}
        """,
        _PANDAS,
    ),
    Kind(
        "subclass of DataFrame with its own method and attribute",
        """
        import pandas as pd

        class PdkTable(pd.DataFrame):
            _metadata = ['unit']

            @property
            def _constructor(self):
                return PdkTable

            def total(self):
                return float(self.to_numpy().sum()) * pdk_scale

        pdk_scale = 1; pdk_table = PdkTable({'a': [1, 2]}); pdk_table.unit = 'm'
        """,
        "pdk_table.loc[0, 'a'] = 5; pdk_table.unit = 'km'; pdk_scale = 10",
        """
        assert isinstance(pdk_table, PdkTable) and pdk_table.unit == 'km' and pdk_table.total() == 70
        assert isinstance(pdk_table[['a']], PdkTable) and pdk_table[pdk_table['a'] > 2].total() == 50
        """,
        _PANDAS,
    ),
    Kind(
        "scalars of pandas",
        """
        import pandas as pd
        pdv_all = [pd.Timestamp('2024-01-01', tz='UTC'), pd.Timedelta('1D'), pd.NaT, pd.NA]
        pdv_all += [pd.Interval(0, 1), pd.offsets.MonthEnd()]
        """,
        "pdv_all[0] += pdv_all[1]; pdv_all.append(pd.Period('2024Q1'))",
        """
        assert pdv_all[0].day == 2 and pdv_all[2] is pd.NaT and pdv_all[3] is pd.NA and 1 in pdv_all[4]
        assert (pdv_all[0] + pdv_all[5]).day == 31 and pdv_all[6].end_time.month == 3
        """,
        _PANDAS,
    ),
    Kind(
        "frame with duplicate column names, and an empty one",
        """
        import pandas as pd
        pdu_frame = pd.DataFrame([[1, 2, 3]], columns=['a', 'a', 'b'])
        pdu_empty = pd.DataFrame({'x': pd.Series(dtype='int64')})
        """,
        "pdu_frame.iloc[0, 1] = 20; pdu_frame.columns = ['a', 'a', 'c']",
        """
        assert pdu_frame['a'].to_numpy().tolist() == [[1, 20]] and pdu_frame.columns.tolist() == ['a', 'a', 'c']
        pdu_empty.loc[0] = 5
        assert pdu_empty['x'].tolist() == [5]
        """,
        _PANDAS,
    ),
    Kind(
        "columns that are inserted and popped in place",
        """
        import pandas as pd
        pdy_frame = pd.DataFrame({'a': [3, 1], 'b': [5, 6]}, index=list('xy')); pdy_alias = pdy_frame
        """,
        "pdy_frame.insert(0, 'c', [7, 8]); pdy_taken = pdy_alias.pop('b')",
        """
        assert pdy_alias is pdy_frame and list(pdy_frame) == ['c', 'a'] and pdy_taken.tolist() == [5, 6]
        pdy_alias.loc['new'] = 9
        assert len(pdy_frame) == 3 and pdy_frame['a'].tolist() == [3, 1, 9]
        """,
        _PANDAS,
    ),
    Kind(
        "frame and the array it was made from",
        """
        import numpy as np, pandas as pd
        pdb_array = np.arange(4.0); pdb_frame = pd.DataFrame({'a': pdb_array})
        """,
        "pdb_array[0] = 50; pdb_frame.loc[1, 'a'] = 60",
        """
        assert pdb_frame['a'].tolist() == [0, 60, 2, 3] and pdb_array.tolist() == [50, 1, 2, 3]
        pdb_array[2] = 70; pdb_frame.loc[3, 'a'] = 80
        assert pdb_frame['a'].tolist() == [0, 60, 2, 80] and pdb_array.tolist() == [50, 1, 70, 3]
        """,
        _PANDAS,
    ),
    Kind(
        "frames in a dict, with functions that work on them",
        """
        import pandas as pd
        pdq_frames = {'a': pd.DataFrame({'v': [1, 2]})}

        def pdq_add(name, factor):
            pdq_frames[name] = pdq_frames['a'].assign(v=lambda f: f['v'] * factor + pdq_shift)

        pdq_shift = 0
        """,
        "pdq_shift = 1; pdq_add('b', 10)",
        """
        assert pdq_frames['b']['v'].tolist() == [11, 21]
        pdq_shift = 5
        pdq_add('c', 1)
        assert pd.concat(pdq_frames)['v'].tolist() == [1, 2, 11, 21, 6, 7]
        """,
        _PANDAS,
    ),
    Kind(
        "styled frame",
        """
        import pandas as pd
        pdz_frame = pd.DataFrame({'a': [1, 2]})

        def pdz_color(value):
            return f'color: {pdz_hot}' if value > 1 else ''

        pdz_hot = 'red'; pdz_style = pdz_frame.style.map(pdz_color)
        """,
        "pdz_hot = 'orange'; pdz_style.set_caption('numbers')",
        """
        pdz_html = pdz_style.to_html()
        assert 'color: orange' in pdz_html and 'numbers' in pdz_html
        """,
        ("pandas", "jinja2"),
    ),
)
