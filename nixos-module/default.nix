# The NixOS module. It describes what the configuration says; impctl, at build time, and imp-mount, at boot, decide.
{
  imports = [
    ./options.nix
    ./persistence.nix
    ./entries.nix
  ];
}
