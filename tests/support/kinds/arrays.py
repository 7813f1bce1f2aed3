"""Arrays of numpy and what belongs to them."""

from __future__ import annotations

from .kind import Kind

_NUMPY = ("numpy",)

KINDS: tuple[Kind, ...] = (
    Kind(
        "array of floats, edited in place",
        "import numpy as np\nnpa_data = np.linspace(0, 1, 5)",
        "npa_data[2] = 7; npa_data *= 2",
        """
        assert npa_data.tolist() == [0, 0.5, 14, 1.5, 2] and npa_data.flags.writeable and npa_data.dtype == np.float64
        npa_data[0] = -1
        assert npa_data.min() == -1
        """,
        _NUMPY,
    ),
    Kind(
        "large array of which one element changes",
        "import numpy as np\nnpl_data = np.arange(1_000_000, dtype=np.float64); npl_other = np.ones(300_000, np.int8)",
        "npl_data[654_321] = -5",
        """
        assert npl_data[654_321] == -5 and npl_data[654_322] == 654_322 and npl_data.shape == (1_000_000,)
        npl_data[0] = 3; npl_other[0] = 9
        assert npl_data[0] == 3 and npl_other.sum() == 300_008 and npl_data[-1] == 999_999
        """,
        _NUMPY,
    ),
    Kind(
        "views of a base",
        "import numpy as np\nnpv_base = np.zeros((3, 4)); npv_row = npv_base[1]; npv_column = npv_base[:, 2]",
        "npv_row[:] = 5; npv_column += 1",
        """
        assert npv_base.sum() == 23 and npv_base[1, 2] == npv_row[2] == npv_column[1] == 6
        npv_base[1, 2] = 100
        assert npv_row[2] == npv_column[1] == 100 and np.shares_memory(npv_row, npv_column)
        npv_column[0] = 50
        assert npv_base[0, 2] == 50
        """,
        _NUMPY,
    ),
    Kind(
        "large base and its views",
        """
        import numpy as np
        npg_base = np.zeros((600, 500)); npg_half = npg_base[300:]; npg_steps = npg_base.ravel()[::7]
        """,
        "npg_half[0, 0] = 8; npg_steps[1] = 3",
        """
        assert npg_base[300, 0] == 8 and npg_base[0, 7] == 3 and npg_base.sum() == 11
        npg_base[:] = 1
        assert npg_half.sum() == 150_000 and npg_steps[5] == 1
        """,
        _NUMPY,
    ),
    Kind(
        "views whose base has no name",
        """
        import numpy as np

        def npn_make():
            base = np.arange(10)
            return base[:6], base[4:]

        npn_low, npn_high = npn_make()
        """,
        "npn_low[5] = 50",
        """
        assert npn_low.tolist() == [0, 1, 2, 3, 4, 50] and npn_high.tolist() == [4, 50, 6, 7, 8, 9]
        npn_high[0] = -4
        assert npn_low[4] == -4 and npn_low.base is not None and len(npn_low.base) == 10
        """,
        _NUMPY,
    ),
    Kind(
        "transposed, reversed and reshaped views",
        """
        import numpy as np
        npt_base = np.arange(6).reshape(2, 3); npt_t = npt_base.T; npt_back = npt_base[::-1, ::-1]
        npt_flat = npt_base.reshape(-1); npt_bytes = npt_base.view(np.uint8)
        """,
        "npt_t[2, 1] = 60; npt_back[1, 2] = 10",
        """
        assert npt_flat.tolist() == [10, 1, 2, 3, 4, 60] and npt_t.shape == (3, 2) and npt_back[0, 0] == 60
        npt_flat[3] = 0x0102
        assert npt_bytes[1, :2].tolist() == [2, 1] and npt_base[1, 0] == npt_t[0, 1] == npt_back[0, 2] == 258
        """,
        _NUMPY,
    ),
    Kind(
        "array that a list, an object and a variable share",
        """
        import numpy as np

        class NpsLayer:
            def __init__(self, weights):
                self.weights = weights

        nps_weights = np.ones(4); nps_layers = [NpsLayer(nps_weights), NpsLayer(nps_weights[:2])]
        """,
        "nps_layers[0].weights[0] = 3",
        """
        assert nps_weights.tolist() == [3, 1, 1, 1] and nps_layers[0].weights is nps_weights
        nps_weights[1] = 9
        assert nps_layers[1].weights.tolist() == [3, 9]
        """,
        _NUMPY,
    ),
    Kind(
        "array in Fortran order, and its views",
        """
        import numpy as np
        npf_a = np.asfortranarray(np.arange(6.0).reshape(2, 3)); npf_column = npf_a[:, 1]; npf_t = npf_a.T
        """,
        "npf_a[0, 1] = 77",
        """
        assert npf_a.flags.f_contiguous and not npf_a.flags.c_contiguous and npf_column.tolist() == [77, 4]
        npf_column[1] = 5
        assert npf_a[1, 1] == npf_t[1, 1] == 5 and npf_a.strides == (8, 16)
        """,
        _NUMPY,
    ),
    Kind(
        "strided windows over one array",
        """
        import numpy as np
        npw_data = np.arange(8); npw_windows = np.lib.stride_tricks.sliding_window_view(npw_data, 3)
        npw_overlap = np.lib.stride_tricks.as_strided(npw_data, (3, 4), (16, 8))
        npw_wide = np.broadcast_to(npw_data, (2, 8))
        """,
        "npw_overlap[1, 0] = 20",
        """
        assert npw_data.tolist() == [0, 1, 20, 3, 4, 5, 6, 7] and npw_overlap[0, 2] == 20 and npw_windows[0, 2] == 20
        npw_data[3] = 30
        assert npw_windows[1].tolist() == [1, 20, 30] and npw_wide[:, 3].tolist() == [30, 30]
        assert not npw_windows.flags.writeable and npw_overlap[0, 3] == npw_overlap[1, 1] == 30
        """,
        _NUMPY,
    ),
    Kind(
        "structured array and a view of one field",
        """
        import numpy as np
        npd_table = np.array([(1, 2.5, 'ab'), (3, 4.5, 'cd')], dtype=[('n', 'i4'), ('x', 'f8'), ('s', 'U4')])
        npd_x = npd_table['x']
        """,
        "npd_table[0] = (10, 20.5, 'abcd'); npd_x[1] = -1",
        """
        assert npd_table['n'].tolist() == [10, 3] and npd_table[1].item() == (3, -1.0, 'cd')
        assert npd_x.tolist() == [20.5, -1] and npd_table.dtype.names == ('n', 'x', 's')
        npd_table['x'][0] = 8
        assert npd_x[0] == 8
        """,
        _NUMPY,
    ),
    Kind(
        "record array",
        "import numpy as np\nnpr_table = np.rec.array([(1, 'a'), (2, 'b')], dtype=[('n', int), ('s', 'U3')])",
        "npr_table.n[0] = 5; npr_table[1].s = 'new'",
        """
        assert isinstance(npr_table, np.recarray) and npr_table.n.tolist() == [5, 2] and npr_table[1].s == 'new'
        npr_table.s = 'x'
        assert npr_table[0].s == 'x'
        """,
        _NUMPY,
    ),
    Kind(
        "masked array",
        """
        import numpy as np
        npm_data = np.ma.array([1.0, 2.0, 3.0, 4.0], mask=[0, 1, 0, 0], fill_value=-9); npm_part = npm_data[1:]
        """,
        "npm_data[2] = np.ma.masked; npm_data[0] = 10",
        """
        assert npm_data.mask.tolist() == [False, True, True, False] and npm_data.sum() == 14
        assert npm_data.filled().tolist() == [10, -9, -9, 4] and npm_part.mask.tolist()[0] is True
        npm_data[2] = 3
        assert npm_data.count() == 3 and npm_data[1] is np.ma.masked
        """,
        _NUMPY,
    ),
    Kind(
        "object array whose items are variables too",
        """
        import numpy as np
        npo_item = {'n': 1}; npo_cells = np.array([npo_item, None, [2]], dtype=object); npo_view = npo_cells[:2]
        """,
        "npo_cells[0]['n'] = 5; npo_cells[1] = npo_item",
        """
        assert npo_item == {'n': 5} and npo_cells[0] is npo_item and npo_cells[1] is npo_item
        npo_item['m'] = 6
        assert npo_view[1] == {'n': 5, 'm': 6}
        npo_cells[2].append(3)
        assert npo_cells[2] == [2, 3]
        """,
        _NUMPY,
    ),
    Kind(
        "read-only array over one that can be written",
        "import numpy as np\nnpq_base = np.arange(4); npq_frozen = npq_base.view(); npq_frozen.flags.writeable = False",
        "npq_base[1] = 11",
        """
        assert npq_frozen.tolist() == [0, 11, 2, 3] and not npq_frozen.flags.writeable
        npq_base[0] = 10
        assert npq_frozen[0] == 10
        try:
            npq_frozen[0] = 1
        except ValueError:
            npq_refused = True
        assert npq_refused
        """,
        _NUMPY,
    ),
    Kind(
        "memmap of a file",
        """
        import numpy as np
        npe_map = np.memmap(scratch / 'npe.bin', dtype=np.int32, mode='w+', shape=(3, 4)); npe_map[:] = 1
        npe_row = npe_map[2]
        """,
        "npe_map[1] = 7; npe_map.flush()",
        """
        assert npe_map.sum() == 36 and npe_map.shape == (3, 4) and isinstance(npe_map, np.memmap)
        npe_map[0, 0] = 100; npe_row[1] = 50
        npe_row.flush()
        assert np.fromfile(scratch / 'npe.bin', np.int32)[[0, 9]].tolist() == [100, 50] and npe_map[2, 1] == 50
        """,
        _NUMPY,
    ),
    Kind(
        "Generators of random numbers",
        """
        import numpy as np
        npk_rng = np.random.default_rng(5); npk_twin = np.random.default_rng(5)
        npk_philox = np.random.Generator(np.random.Philox(3)); npk_same = np.random.Generator(npk_rng.bit_generator)
        """,
        "npk_rng.random(3); npk_philox_next = npk_philox.normal()",
        """
        npk_twin.random(3)
        assert npk_rng.integers(1000, size=5).tolist() == npk_twin.integers(1000, size=5).tolist()
        npk_fresh = np.random.Generator(np.random.Philox(3))
        assert npk_fresh.normal() == npk_philox_next and npk_fresh.normal() == npk_philox.normal()
        npk_same.random(); npk_twin.random()
        assert npk_rng.random() == npk_twin.random()
        """,
        _NUMPY,
    ),
    Kind(
        "RandomState",
        "import numpy as np\nnpj_state = np.random.RandomState(3); npj_twin = np.random.RandomState(3)",
        "npj_state.normal()",
        """
        npj_twin.normal()
        assert npj_state.normal() == npj_twin.normal() and npj_state.randint(100) == npj_twin.randint(100)
        """,
        _NUMPY,
    ),
    Kind(
        "state of numpy.random",
        "import numpy as np\nnp.random.seed(11)",
        "np.random.rand(); npi_twin = np.random.RandomState(); npi_twin.set_state(np.random.get_state())",
        "assert np.random.rand(3).tolist() == npi_twin.rand(3).tolist()",
        _NUMPY,
    ),
    Kind(
        "dates and differences of numpy",
        """
        import numpy as np
        npc_days = np.array(['2024-02-28', 'NaT', '2024-03-01'], dtype='datetime64[D]')
        npc_step = np.timedelta64(1, 'D')
        """,
        "npc_days[0] += npc_step; npc_diff = npc_days[2] - npc_days[0]",
        """
        assert str(npc_days[0]) == '2024-02-29' and np.isnat(npc_days[1]) and npc_diff == npc_step
        assert npc_days.dtype == 'datetime64[D]' and (npc_days + npc_step)[2] == np.datetime64('2024-03-02')
        """,
        _NUMPY,
    ),
    Kind(
        "arrays without elements, and without dimensions",
        """
        import numpy as np
        npz_empty = np.empty((0, 3), np.float32); npz_scalar = np.array(5); npz_none = npz_empty[:, 1:]
        """,
        "npz_scalar[...] = 6; npz_empty = np.vstack([npz_empty, np.empty((0, 3), np.float32)])",
        """
        assert npz_empty.shape == (0, 3) and npz_empty.dtype == np.float32 and npz_none.shape == (0, 2)
        assert npz_scalar.shape == () and npz_scalar == 6
        npz_scalar += 1
        assert int(npz_scalar) == 7 and np.vstack([npz_empty, [[1, 2, 3]]]).shape == (1, 3)
        """,
        _NUMPY,
    ),
    Kind(
        "arrays of text",
        """
        import numpy as np
        npx_text = np.array(['a', 'bcd']); npx_bytes = np.array([b'x', b'yz'])
        npx_any = np.array(['short', 'a longer text than fits a small place' * 2], dtype=np.dtypes.StringDType())
        """,
        "npx_text[0] = 'xyz'; npx_any[0] = 'ünï'",
        """
        assert npx_text.tolist() == ['xyz', 'bcd'] and npx_bytes.dtype == 'S2' and npx_any[0] == 'ünï'
        assert len(npx_any[1]) == 74 and npx_any.dtype == np.dtypes.StringDType()
        npx_any[1] = 'z'
        assert np.strings.upper(npx_any).tolist() == ['ÜNÏ', 'Z']
        """,
        _NUMPY,
    ),
    Kind(
        "scalars and dtypes",
        """
        import numpy as np
        npb_all = [np.float32(0.1), np.bool_(True), np.int8(-3), np.str_('s'), np.dtype('>i4'), np.float64]
        """,
        "npb_all[2] += np.int8(1); npb_all.append(np.dtype([('a', int)]))",
        """
        assert type(npb_all[0]) is np.float32 and npb_all[1] is np.True_ and npb_all[2] == -2 and npb_all[3] == 's'
        assert npb_all[4].byteorder == '>' and npb_all[5] is np.float64 and npb_all[6].names == ('a',)
        assert np.zeros(2, npb_all[4]).dtype.str == '>i4'
        """,
        _NUMPY,
    ),
    Kind(
        "numbers of unusual size",
        """
        import numpy as np
        npu_half = np.array([1.5], np.float16); npu_long = np.array([1.0], np.longdouble) / 3
        npu_complex = np.array([1 + 2j], np.complex64); npu_big = np.array([1, 2], '>u2')
        """,
        "npu_half *= 2; npu_complex = npu_complex.conj(); npu_big[0] = 258",
        """
        assert npu_half[0] == 3 and npu_half.dtype == np.float16 and npu_long[0] * 3 == 1 and npu_complex[0] == 1 - 2j
        assert npu_big.tobytes() == b'\\x01\\x02\\x00\\x02'
        npu_big += 1
        assert npu_big.tolist() == [259, 3]
        """,
        _NUMPY,
    ),
    Kind(
        "ufuncs, vectorized functions and polynomials",
        """
        import numpy as np
        from numpy.polynomial import Polynomial
        npp_sum = np.add; npp_by = 2; npp_each = np.vectorize(lambda n: n * npp_by); npp_poly = Polynomial([1, 2])
        npp_py = np.frompyfunc(divmod, 2, 2)
        """,
        "npp_by = 3; npp_poly = npp_poly * npp_poly",
        """
        assert npp_sum is np.add and npp_sum.reduce([1, 2]) == 3 and npp_poly(1) == 9
        assert npp_each([1, 2]).tolist() == [3, 6]
        npp_by = 10
        assert npp_each([1]).tolist() == [10]
        """,
        _NUMPY,
        ("npp_py",),
    ),
    Kind(
        "array over a bytearray",
        """
        import numpy as np
        nph_bytes = bytearray(8); nph_array = np.frombuffer(nph_bytes, np.uint16); nph_tail = nph_array[2:]
        """,
        "nph_array[0] = 0x0201; nph_bytes[7] = 4",
        """
        assert nph_bytes == bytes([1, 2, 0, 0, 0, 0, 0, 4]) and nph_array[3] == 0x0400
        nph_bytes[4] = 9
        assert nph_array[2] == 9 and nph_tail[0] == 9
        nph_tail[1] = 0
        assert nph_bytes[7] == 0
        """,
        _NUMPY,
    ),
    Kind(
        "array over bytes",
        "import numpy as np\nnpy_array = np.frombuffer(b'abcd', np.uint8)",
        "npy_twice = [npy_array, npy_array[1:]]",
        """
        assert npy_array.tobytes() == b'abcd' and not npy_array.flags.writeable and npy_twice[0] is npy_array
        assert npy_twice[1].tolist() == [98, 99, 100] and np.shares_memory(npy_twice[1], npy_array)
        """,
        _NUMPY,
    ),
    Kind(
        "matrix",
        "import numpy as np\nnmx_matrix = np.matrix([[1, 2], [3, 4]])",
        "nmx_matrix[0, 0] = 5",
        """
        assert isinstance(nmx_matrix, np.matrix) and (nmx_matrix * nmx_matrix).tolist() == [[31, 18], [27, 22]]
        nmx_matrix[1, 1] = 0
        assert nmx_matrix.A1.tolist() == [5, 2, 3, 0]
        """,
        _NUMPY,
    ),
    Kind(
        "subclass of ndarray with an attribute",
        """
        import numpy as np

        class NsbArray(np.ndarray):
            def __new__(cls, data, unit):
                self = np.asarray(data, float).view(cls)
                self.unit = unit
                return self

            def __array_finalize__(self, other):
                self.unit = getattr(other, 'unit', None)

            def __reduce__(self):
                make, arguments, state = super().__reduce__()
                return make, arguments, (state, self.unit)

            def __setstate__(self, state):
                super().__setstate__(state[0])
                self.unit = state[1]

        nsb_array = NsbArray([1, 2], 'm')
        """,
        "nsb_array[0] = 5; nsb_array.unit = 'km'",
        """
        assert isinstance(nsb_array, NsbArray) and nsb_array.unit == 'km' and nsb_array.tolist() == [5, 2]
        nsb_array[1] = 7
        assert (nsb_array * 2).unit == 'km' and nsb_array.sum() == 12
        """,
        _NUMPY,
    ),
    Kind(
        "index arrays, grids and slices",
        """
        import numpy as np
        nid_grid = np.ogrid[0:3, 0:2]; nid_where = np.nonzero([1, 0, 1]); nid_slice = np.s_[1:, ::2]; nid_all = [0]
        """,
        "nid_all[0] = np.ix_([0, 2], [1])",
        """
        nid_data = np.arange(9).reshape(3, 3)
        assert nid_data[nid_all[0]].tolist() == [[1], [7]] and nid_data[nid_slice].tolist() == [[3, 5], [6, 8]]
        assert (nid_grid[0] + nid_grid[1]).shape == (3, 2) and nid_where[0].tolist() == [0, 2]
        """,
        _NUMPY,
    ),
)
