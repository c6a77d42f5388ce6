# The table of known paths, shared with impctl.
builtins.fromTOML (builtins.readFile ../src/ctl/known/paths.toml)
