"""``penstock up``: everything the service needs, in processes that are watched.

:mod:`preparation` makes folder, lock, schema and key; :mod:`up` says which
children there are and when they are ready; :mod:`supervisor` keeps them
running; :mod:`child` is one process, :mod:`logs` repeats what it writes.
"""
