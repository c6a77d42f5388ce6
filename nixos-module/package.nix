# imp-mount and impctl for the running system; `initrd` is the boot binary alone, static and small.
{
  lib,
  stdenv,
  buildPackages,
  rustPlatform,
  installShellFiles,
  pkgsStatic,
}:
let
  inherit (lib.importTOML ../Cargo.toml) package;

  source =
    more:
    lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions (
        [
          ../Cargo.toml
          ../Cargo.lock
          ../src
          # cargo looks for every test that Cargo.toml names.
          (lib.fileset.difference ../tests ../tests/nixos)
        ]
        ++ more
      );
    };

  common = {
    inherit (package) version;
    # The same for both, and evaluated once.
    cargoDeps = rustPlatform.importCargoLock { lockFile = ../Cargo.lock; };
    strictDeps = true;
    meta = {
      inherit (package) description;
      license = lib.licenses.mit;
      platforms = lib.platforms.linux;
      mainProgram = "imp-mount";
    };
  };

  initrd = pkgsStatic.rustPlatform.buildRustPackage (
    common
    // {
      pname = "imp-mount-initrd";
      # rustflags names it.
      src = source [ ../initrd/no-unwind-tables.ld ];
      buildNoDefaultFeatures = true;
      # A list of crates in a program that has to be small.
      auditable = false;
      cargoBuildFlags = [
        "--bin"
        "imp-mount"
      ];
      env.RUSTFLAGS = toString (lib.splitString "\n" (lib.fileContents ../initrd/rustflags));
      doCheck = false;
      # An initrd has no libraries.
      doInstallCheck = true;
      installCheckPhase = ''
        if LC_ALL=C $READELF --program-headers $out/bin/imp-mount | grep INTERP; then
          echo "imp-mount is not static"
          exit 1
        fi
      '';
    }
  );
in
rustPlatform.buildRustPackage (
  common
  // {
    pname = package.name;
    src = source [ ../docs ];
    nativeBuildInputs = [ installShellFiles ];
    # What mounts needs a kernel of its own: see ../tests/nixos.
    cargoTestFlags = [
      "--lib"
      "--bins"
      "--test=manifest"
    ];
    # Where another machine builds it, that machine runs it as well.
    postInstall =
      let
        impctl = "${stdenv.hostPlatform.emulator buildPackages} $out/bin/impctl";
      in
      ''
        ${impctl} man $out/share/man
        for program in impctl imp-mount; do
          for shell in bash fish zsh; do
            ${impctl} completions $shell $program > $program.$shell
          done
          installShellCompletion --cmd $program $program.{bash,fish,zsh}
        done
      '';
    passthru = { inherit initrd; };
  }
)
