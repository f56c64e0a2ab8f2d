"""Steps in processes of their own: ``ctx.step.run(..., process=True)``.

A worker has one pool (:mod:`.pool`). Each of its threads owns one child process (:mod:`.child`),
which runs :mod:`.main` and executes one function at a time. Parent and child exchange frames
(:mod:`.channel`) over a socket; values cross it in polos's own codec.
"""
