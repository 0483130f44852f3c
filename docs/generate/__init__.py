"""Reference pages made from the code: settings, recipe keys, routes, gRPC, metrics, commands, the tree.

mkdocs calls `hook.py`. Every page module has one function, `page() -> str`, which returns Markdown.
Nothing is written to the repository, and nothing of this folder is in the wheel.
"""
