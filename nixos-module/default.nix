# The NixOS module. It describes what the configuration says; impctl, at build time, and imp-mount, at boot, decide.
{ lib, options, ... }:
{
  imports = [
    # Options that people set ...
    ./options.nix
    ./persistence.nix
    ./preservation.nix
    ./persist.nix
    ./entries.nix
    # ... what it comes to ...
    ./plan.nix
    ./manifest.nix
    ./assertions.nix
    # ... what it leaves out ...
    ./audit.nix
    # ... and where it goes.
    ./filesystems.nix
    ./initrd.nix
    ./etc.nix
    ./system.nix
    ./old-roots.nix
    ./vm.nix
  ];

  config = lib.optionalAttrs (options ? home-manager.sharedModules) {
    home-manager.sharedModules = [
      ./home-manager.nix
      { home._nixosModuleImported = true; }
    ];
  };
}
