"""Objects of scipy, sympy and networkx."""

from __future__ import annotations

from .kind import Kind

_SCIPY = ("numpy", "scipy")
_SYMPY = ("sympy",)
_NETWORKX = ("networkx",)

KINDS: tuple[Kind, ...] = (
    Kind(
        "sparse matrices of every format",
        """
        import numpy as np, scipy.sparse as sparse
        spm_dense = np.diag([1.0, 2.0, 3.0])
        spm_csr = sparse.csr_array(spm_dense)
        spm_all = {f: spm_csr.asformat(f, copy=True) for f in ('csr', 'csc', 'coo', 'lil', 'dok', 'bsr', 'dia')}
        """,
        "spm_all['lil'][0, 2] = 7; spm_all['dok'][2, 0] = 8; spm_all['csr'].data *= 10",
        """
        assert spm_all['lil'].toarray()[0].tolist() == [1, 0, 7] and spm_all['dok'].toarray()[2].tolist() == [8, 0, 3]
        assert spm_all['csr'].diagonal().tolist() == [10, 20, 30] and spm_all['dia'].format == 'dia'
        assert all((spm_all[f].toarray() == spm_dense).all() for f in ('csc', 'coo', 'bsr', 'dia'))
        spm_all['lil'][1, 1] = 0
        assert spm_all['lil'].tocsr().sum() == 11 and (spm_all['csr'] @ np.ones(3)).sum() == 60
        """,
        _SCIPY,
    ),
    Kind(
        "sparse matrix over arrays that are variables",
        """
        import numpy as np, scipy.sparse as sparse
        spd_data = np.array([1.0, 2.0]); spd_matrix = sparse.csr_matrix((spd_data, [0, 1], [0, 1, 2]))
        """,
        "spd_data[0] = 5",
        """
        assert spd_matrix.toarray().tolist() == [[5, 0], [0, 2]] and spd_matrix.format == 'csr'
        spd_data[1] = 9
        assert spd_matrix[1, 1] == 9 and sparse.isspmatrix_csr(spd_matrix)
        """,
        _SCIPY,
    ),
    Kind(
        "distributions, frozen and fitted",
        """
        from scipy import stats
        spf_normal = stats.norm(loc=1, scale=2); spf_poisson = stats.poisson(3)
        spf_kde = stats.gaussian_kde([1.0, 2.0, 4.0])
        """,
        "spf_normal.random_state = 5; spf_kde.set_bandwidth(0.5)",
        """
        assert spf_normal.mean() == 1 and spf_poisson.pmf(0) < 0.05 and abs(spf_normal.ppf(0.5) - 1) < 1e-12
        assert spf_kde.factor == 0.5 and spf_kde(2.0)[0] > 0.1
        assert spf_normal.rvs() == stats.norm(loc=1, scale=2).rvs(random_state=5)
        """,
        _SCIPY,
    ),
    Kind(
        "distribution that a cell defines",
        """
        from scipy import stats

        class SpcRamp(stats.rv_continuous):
            def _pdf(self, x):
                return 2 * x

        spc_ramp = SpcRamp(a=0, b=1, name='ramp')
        """,
        "spc_frozen = spc_ramp(loc=1)",
        """
        assert abs(spc_ramp.cdf(0.5) - 0.25) < 1e-9 and abs(spc_frozen.cdf(1.5) - 0.25) < 1e-9
        assert isinstance(spc_ramp, SpcRamp)
        """,
        _SCIPY,
    ),
    Kind(
        "splines and interpolators",
        """
        import numpy as np
        from scipy import interpolate
        spi_x = np.arange(5.0); spi_spline = interpolate.CubicSpline(spi_x, spi_x**2)
        spi_grid = interpolate.RegularGridInterpolator((spi_x, spi_x), np.add.outer(spi_x, spi_x))
        spi_b = interpolate.make_interp_spline(spi_x, spi_x**3); spi_pchip = interpolate.PchipInterpolator(spi_x, spi_x)
        """,
        "spi_slope = spi_spline.derivative()",
        """
        assert abs(spi_spline(2.5) - 6.25) < 1e-9 and abs(spi_slope(2.0) - 4) < 1e-9
        assert spi_grid([[1.5, 2.0]])[0] == 3.5
        assert abs(spi_b(1.5) - 3.375) < 1e-9 and abs(spi_pchip.integrate(0, 4) - 8) < 1e-9
        """,
        _SCIPY,
    ),
    Kind(
        "trees of points",
        """
        import numpy as np
        from scipy import spatial
        spt_points = np.array([[0.0, 0], [1, 1], [5, 5]]); spt_tree = spatial.KDTree(spt_points)
        """,
        "spt_c = spatial.cKDTree(spt_points); spt_near = spt_tree.query([0.9, 0.9])[1]",
        """
        assert spt_near == 1 and spt_tree.query([4, 4])[1] == 2 and spt_c.query_ball_point([0, 0], 2) == [0, 1]
        assert isinstance(spt_tree, spatial.KDTree) and spt_tree.n == 3
        """,
        _SCIPY,
    ),
    Kind(
        "hull and triangulation",
        """
        import numpy as np
        from scipy import spatial
        sph_points = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.4]]); sph_hull = spatial.ConvexHull(sph_points)
        """,
        "sph_area = sph_hull.volume; sph_mesh = spatial.Delaunay(sph_points)",
        "assert sph_area == 1",
        _SCIPY,
        ("sph_hull", "sph_mesh"),
    ),
    Kind(
        "result of an optimization",
        """
        from scipy import optimize

        def spo_cost(x):
            return (x[0] - spo_target) ** 2

        spo_target = 3; spo_result = optimize.minimize(spo_cost, [0.0])
        """,
        "spo_result.note = 'kept'; spo_target = 5",
        """
        assert abs(spo_result.x[0] - 3) < 1e-3 and spo_result.success and spo_result['note'] == 'kept'
        assert abs(optimize.minimize(spo_cost, spo_result.x).x[0] - 5) < 1e-3
        """,
        _SCIPY,
    ),
    Kind(
        "solution of a differential equation",
        """
        import numpy as np
        from scipy import integrate
        spe_k = -1.0
        spe_solution = integrate.solve_ivp(lambda t, y: spe_k * y, (0, 2), [1.0], dense_output=True)
        """,
        "spe_at = spe_solution.sol(1.0)[0]",
        "assert abs(spe_at - np.exp(-1)) < 1e-2 and spe_solution.sol(1.0)[0] == spe_at and spe_solution.status == 0",
        _SCIPY,
    ),
    Kind(
        "filters, rotations and operators",
        """
        import numpy as np
        from scipy import signal, spatial, sparse
        import scipy.sparse.linalg
        spr_sos = signal.butter(2, 0.2, output='sos'); spr_system = signal.TransferFunction([1], [1, 1])
        spr_turn = spatial.transform.Rotation.from_euler('z', 90, degrees=True)
        spr_by = 2; spr_operator = sparse.linalg.LinearOperator((2, 2), matvec=lambda v: spr_by * v)
        """,
        "spr_by = 3; spr_turn = spr_turn * spr_turn",
        """
        assert np.allclose(spr_turn.apply([1, 0, 0]), [-1, 0, 0]) and (spr_operator @ np.ones(2)).tolist() == [3, 3]
        assert signal.sosfilt(spr_sos, np.ones(50))[-1] > 0.9 and spr_system.poles.tolist() == [-1]
        """,
        _SCIPY,
    ),
    Kind(
        "symbols and expressions",
        """
        import sympy as sy
        syx_x, syx_y = sy.symbols('x y'); syx_n = sy.Symbol('n', integer=True, positive=True)
        syx_expr = syx_x**2 + 2 * syx_x * syx_y
        """,
        "syx_expr = sy.expand((syx_expr + syx_y**2) * syx_n)",
        """
        assert sy.factor(syx_expr) == syx_n * (syx_x + syx_y) ** 2 and sy.Symbol('x') == syx_x
        assert syx_x is sy.Symbol('x')
        assert sy.sqrt(syx_n**2) == syx_n and syx_n.is_positive and sy.Symbol('n') != syx_n
        assert sy.diff(syx_expr, syx_x).subs({syx_x: 1, syx_y: 1, syx_n: 2}) == 8
        """,
        _SYMPY,
    ),
    Kind(
        "matrix of symbols, edited",
        """
        import sympy as sy
        sym_a = sy.Symbol('a'); sym_matrix = sy.Matrix([[1, sym_a], [0, 2]]); sym_fixed = sy.ImmutableMatrix([[1]])
        """,
        "sym_matrix[1, 0] = sym_a; sym_alias = sym_matrix",
        """
        assert sym_matrix.det() == 2 - sym_a**2 and sym_alias is sym_matrix and sym_fixed[0] == 1
        sym_alias[0, 0] = 0
        assert sym_matrix.trace() == 2
        """,
        _SYMPY,
    ),
    Kind(
        "functions, dummies and solutions of sympy",
        """
        import sympy as sy
        syf_t = sy.Symbol('t'); syf_f = sy.Function('f'); syf_dummy = sy.Dummy('t')
        syf_pair = [syf_dummy, syf_dummy + 1]
        syf_equation = sy.Eq(syf_f(syf_t).diff(syf_t), syf_f(syf_t))
        """,
        "syf_solution = sy.dsolve(syf_equation); syf_set = sy.Interval(0, sy.oo) - sy.FiniteSet(1)",
        """
        assert syf_solution.rhs.diff(syf_t) == syf_solution.rhs and syf_f(syf_t) == sy.Function('f')(sy.Symbol('t'))
        assert syf_pair[1] - syf_pair[0] == 1 and syf_dummy == syf_pair[0] and syf_dummy != syf_t
        assert 1 not in syf_set and 2 in syf_set and sy.Integral(syf_t, (syf_t, 0, 2)).doit() == 2
        """,
        _SYMPY,
    ),
    Kind(
        "function of sympy that a cell defines",
        """
        import sympy as sy

        class SydDouble(sy.Function):
            @classmethod
            def eval(cls, n):
                if n.is_Number:
                    return n * 2

        syd_x = sy.Symbol('x'); syd_expr = SydDouble(syd_x) + 1
        """,
        "syd_expr = syd_expr * 3",
        "assert syd_expr.subs(syd_x, 4).expand() == 27 and SydDouble(5) == 10 and syd_expr.has(SydDouble)",
        _SYMPY,
    ),
    Kind(
        "expression turned into a function",
        "import sympy as sy\nsyl_x = sy.Symbol('x'); syl_f = sy.lambdify(syl_x, sy.sin(syl_x) ** 2 + syl_x, 'math')",
        "syl_value = syl_f(0.0)",
        "assert syl_value == 0 and abs(syl_f(3.141592653589793) - 3.141592653589793) < 1e-9",
        _SYMPY,
    ),
    Kind(
        "graph that is changed through an alias",
        "import networkx as nx\nnxg_graph = nx.path_graph(4); nxg_alias = nxg_graph; nxg_edges = nxg_graph.edges",
        "nxg_alias.add_edge(3, 0, weight=2.5); nxg_graph.nodes[1]['color'] = 'red'; nxg_graph.graph['name'] = 'ring'",
        """
        assert nxg_graph is nxg_alias and nxg_graph[0][3]['weight'] == 2.5
        assert nx.shortest_path(nxg_graph, 0, 3) == [0, 3]
        assert nxg_graph.nodes[1] == {'color': 'red'} and nxg_graph.graph['name'] == 'ring'
        nxg_alias.remove_node(1)
        assert (0, 1) not in nxg_edges and len(nxg_edges) == 2
        """,
        _NETWORKX,
    ),
    Kind(
        "directed graphs with attributes, and parallel edges",
        """
        import networkx as nx
        nxd_graph = nx.DiGraph([('a', 'b'), ('b', 'c')]); nxd_multi = nx.MultiDiGraph([(1, 2), (1, 2)])
        """,
        "nxd_graph.edges['a', 'b']['via'] = [1]; nxd_multi.add_edge(1, 2, key='named', w=3)",
        """
        assert list(nx.topological_sort(nxd_graph)) == ['a', 'b', 'c'] and nxd_graph['a']['b']['via'] == [1]
        assert nxd_multi.number_of_edges(1, 2) == 3 and nxd_multi[1][2]['named']['w'] == 3
        nxd_graph.edges['a', 'b']['via'].append(2)
        assert nxd_graph.pred['b']['a']['via'] == [1, 2]
        """,
        _NETWORKX,
    ),
    Kind(
        "graph of objects of a cell's class, and a view of it",
        """
        import networkx as nx

        class NxoCity:
            def __init__(self, name):
                self.name = name

        nxo_a, nxo_b, nxo_c = map(NxoCity, 'abc'); nxo_graph = nx.Graph([(nxo_a, nxo_b)])
        nxo_view = nxo_graph.subgraph([nxo_a, nxo_b])
        """,
        "nxo_graph.add_edge(nxo_b, nxo_c); nxo_a.name = 'A'",
        """
        assert nxo_graph.has_edge(nxo_c, nxo_b) and [n.name for n in nxo_graph] == ['A', 'b', 'c']
        assert len(nxo_view) == 2
        nxo_graph.remove_edge(nxo_a, nxo_b)
        assert nxo_view.number_of_edges() == 0 and isinstance(next(iter(nxo_graph)), NxoCity)
        """,
        _NETWORKX,
    ),
)
