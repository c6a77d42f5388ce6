# The NixOS module. The module describes the configuration; impctl, at build time, and imp-mount, at boot, decide.
{ lib, options, ... }:
{
  imports = [
    # Options, and entries and parents of the manifest by them.
    ./options.nix
    ./interfaces/impermanence
    ./interfaces/preservation.nix
    ./presets
    ./entries.nix
    # The manifest, its parts, and refusals.
    ./plan.nix
    ./manifest.nix
    ./assertions.nix
    ./stores.nix
    ./faults.nix
    # Paths without persistence.
    ./audit
    # Definitions of the system.
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
