"""Results: run records read from folders, averaged, compared, queried and shown.

``read_results`` finds runs below any folders, ``summarise`` averages them with their uncertainty, ``pareto`` bounds
what each configuration loses against the best and finds those worth their bytes, ``answer_sentences`` says it in
words, ``write_html`` writes an interactive page. Published numbers are kept
separate from measured ones. Called as a function, ``featstore.results("runs")``, it is
:func:`featstore.workflows.toplevel.results`.
"""

from lazy_loader import attach_stub

from featstore.callable_package import make_callable

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)  # the names of __init__.pyi, imported when used
make_callable(__name__, "featstore.workflows.toplevel:results")
