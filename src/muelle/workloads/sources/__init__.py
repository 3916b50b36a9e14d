"""What a person brings, made into a folder of source and a recipe for it.

`model` says what can be brought, `git` fetches a repository, `archives` unpacks an upload, `recipes` decides how a
folder is built. All of it comes from strangers: nothing of it is run here, and each step is bounded in bytes, entries
and time.
"""
