"""Figures of matplotlib and images of PIL."""

from __future__ import annotations

from .kind import Kind

_PLOT = ("numpy", "matplotlib")
_PIL = ("PIL",)

KINDS: tuple[Kind, ...] = (
    Kind(
        "figure whose line is changed later",
        """
        import matplotlib
        matplotlib.use('Agg')
        from matplotlib.figure import Figure
        mpl_figure = Figure(); mpl_axes = mpl_figure.add_subplot(); mpl_line, = mpl_axes.plot([1, 2], [3, 4], label='l')
        """,
        "mpl_line.set_ydata([30, 40]); mpl_axes.set_title('later'); mpl_axes.legend()",
        """
        import io
        assert mpl_axes.lines[0] is mpl_line and mpl_line.get_ydata() == [30, 40] and mpl_axes.figure is mpl_figure
        assert mpl_figure.axes[0] is mpl_axes and mpl_axes.get_title() == 'later'
        mpl_line.set_color('red'); mpl_axes.plot([5, 6], [7, 8])
        mpl_png = io.BytesIO(); mpl_figure.savefig(mpl_png)
        assert len(mpl_axes.lines) == 2 and mpl_png.getvalue()[1:4] == b'PNG'
        """,
        _PLOT,
    ),
    Kind(
        "figure and axes of pyplot",
        """
        import matplotlib
        matplotlib.use('Agg')
        import matplotlib.pyplot as plt
        mpp_figure, mpp_axes = plt.subplots(2, 2, sharex=True)
        """,
        "mpp_axes[0, 1].bar(['a', 'b'], [1, 2]); mpp_figure.suptitle('title'); mpp_number = mpp_figure.number",
        """
        assert mpp_axes.shape == (2, 2) and mpp_axes[0, 1] in mpp_figure.axes and len(mpp_axes[0, 1].patches) == 2
        assert mpp_figure.get_suptitle() == 'title' and mpp_number in plt.get_fignums()
        assert plt.figure(mpp_number) is mpp_figure
        mpp_axes[1, 0].set_xlim(0, 50)
        assert mpp_axes[0, 0].get_xlim() == (0, 50)
        plt.close(mpp_figure)
        """,
        _PLOT,
    ),
    Kind(
        "image, colours and norm in axes",
        """
        import matplotlib, numpy as np
        matplotlib.use('Agg')
        from matplotlib import colors
        from matplotlib.figure import Figure
        mpi_figure = Figure(); mpi_axes = mpi_figure.subplots(); mpi_norm = colors.Normalize(0, 10)
        mpi_image = mpi_axes.imshow(np.eye(3), norm=mpi_norm, cmap='viridis'); mpi_bar = mpi_figure.colorbar(mpi_image)
        """,
        "mpi_norm.vmax = 20; mpi_image.set_data(np.full((3, 3), 5.0))",
        """
        assert mpi_image.norm is mpi_norm and mpi_norm(10) == 0.5 and mpi_image.get_array().sum() == 45
        mpi_image.set_cmap('magma'); mpi_figure.canvas.draw()
        assert mpi_image.get_cmap().name == 'magma' and mpi_bar.mappable is mpi_image
        """,
        _PLOT,
    ),
    Kind(
        "colour maps, markers and text",
        """
        import matplotlib, numpy as np
        matplotlib.use('Agg')
        from matplotlib import colors
        from matplotlib.path import Path as MpcPath
        mpc_map = colors.LinearSegmentedColormap.from_list('mine', ['red', 'blue'])
        mpc_list = colors.ListedColormap(['k', 'w'])
        mpc_path = MpcPath([[0, 0], [1, 1]])
        """,
        "mpc_map.set_bad('green'); mpc_path.vertices[0] = [5, 5]",
        """
        assert mpc_map(0.0) == (1, 0, 0, 1) and mpc_map(np.nan) == colors.to_rgba('green') and mpc_list.N == 2
        assert mpc_path.vertices.tolist() == [[5, 5], [1, 1]]
        """,
        _PLOT,
    ),
    Kind(
        "settings of matplotlib in a variable",
        """
        import matplotlib
        matplotlib.use('Agg')
        mps_settings = matplotlib.RcParams(matplotlib.rcParams); mps_mine = {'lines.linewidth': 3.0}
        """,
        "mps_settings.update(mps_mine); mps_settings['axes.grid'] = True",
        """
        assert mps_settings['lines.linewidth'] == 3.0 and mps_settings['axes.grid'] is True
        with matplotlib.rc_context(mps_mine):
            assert matplotlib.rcParams['lines.linewidth'] == 3.0
        """,
        _PLOT,
    ),
    Kind(
        "image that is drawn on",
        """
        from PIL import Image, ImageDraw
        pim_image = Image.new('RGB', (8, 6), 'white'); pim_alias = pim_image; pim_image.info['note'] = 'n'
        """,
        "pim_alias.putpixel((1, 2), (10, 20, 30)); ImageDraw.Draw(pim_image).rectangle((4, 3, 7, 5), fill='red')",
        """
        assert pim_image is pim_alias and pim_image.getpixel((1, 2)) == (10, 20, 30) and pim_image.info['note'] == 'n'
        assert pim_image.getpixel((5, 4)) == (255, 0, 0) and pim_image.size == (8, 6)
        pim_image.putpixel((0, 0), 0)
        assert pim_alias.getpixel((0, 0)) == (0, 0, 0)
        """,
        _PIL,
    ),
    Kind(
        "images of every mode",
        """
        from PIL import Image
        pid_all = {m: Image.new(m, (3, 2), 1) for m in ('1', 'L', 'P', 'RGBA', 'F', 'I', 'CMYK')}
        """,
        "pid_all['P'].putpalette([9, 8, 7, 6, 5, 4]); pid_all['F'].putpixel((0, 0), 0.5)",
        """
        assert pid_all['P'].convert('RGB').getpixel((0, 0)) == (6, 5, 4) and pid_all['F'].getpixel((0, 0)) == 0.5
        assert all(image.mode == mode and image.size == (3, 2) for mode, image in pid_all.items())
        pid_all['L'].paste(200, (0, 0, 1, 1))
        assert pid_all['L'].getpixel((0, 0)) == 200 and pid_all['1'].getpixel((0, 0))
        """,
        _PIL,
    ),
    Kind(
        "image that was opened from a file",
        """
        from PIL import Image
        Image.new('L', (4, 4), 7).save(scratch / 'pio.png'); pio_image = Image.open(scratch / 'pio.png')
        """,
        "pio_small = pio_image.resize((2, 2)); pio_image.putpixel((0, 0), 99)",
        """
        assert pio_image.getpixel((0, 0)) == 99 and pio_image.getpixel((3, 3)) == 7 and pio_small.size == (2, 2)
        pio_image.save(scratch / 'pio_again.png')
        assert Image.open(scratch / 'pio_again.png').getpixel((0, 0)) == 99
        """,
        _PIL,
    ),
    Kind(
        "image that was opened and not read",
        """
        from PIL import Image
        Image.new('L', (4, 4), 7).save(scratch / 'pin.png'); pin_image = Image.open(scratch / 'pin.png')
        """,
        "pin_size = pin_image.size",
        "assert pin_size == (4, 4) and pin_image.getpixel((1, 1)) == 7 and pin_image.mode == 'L'",
        _PIL,
    ),
    Kind(
        "image filter",
        "from PIL import Image, ImageFilter\npif_filter = ImageFilter.GaussianBlur(1)",
        "pif_filter.radius = 2; pif_image = Image.new('L', (9, 9)); pif_image.putpixel((4, 4), 255)",
        "assert pif_image.filter(pif_filter).getpixel((4, 4)) < 100",
        _PIL,
    ),
)
