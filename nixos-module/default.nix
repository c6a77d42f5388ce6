# The NixOS module. It describes what the configuration says; impctl, at build time, and imp-mount, at boot, decide.
{ lib, options, ... }:
{
  imports = [
    # Options that people set ...
    ./options.nix
    ./interfaces/impermanence
    ./interfaces/preservation.nix
    ./presets
    ./entries.nix
    # ... what it comes to ...
    ./plan.nix
    ./manifest.nix
    ./assertions.nix
    # ... what it leaves out ...
    ./audit
    # ... and where it goes.
    ./effects/filesystems.nix
    ./effects/initrd.nix
    ./effects/etc.nix
    ./effects/system.nix
    ./effects/old-roots.nix
    ./effects/vm.nix
  ];

  config = lib.optionalAttrs (options ? home-manager.sharedModules) {
    home-manager.sharedModules = [
      ./interfaces/home-manager.nix
      { home._nixosModuleImported = true; }
    ];
  };
}
