# The table of what is known of paths, which impctl has, too.
builtins.fromTOML (builtins.readFile ../src/ctl/known/paths.toml)
