# A kernel without a kernel: the systems here run on this machine's.
{ final }:
let
  version = "6.18.0";
  kernel =
    final.runCommand "linux-${version}" { } ''
      mkdir -p $out/lib/modules/${version}
      touch $out/bzImage $out/lib/modules/${version}/modules.{order,builtin,builtin.modinfo}
    ''
    // {
      inherit version;
      modDirVersion = version;
      target = "bzImage";
      features = { };
      kernelOlder = _: false;
      kernelAtLeast = _: true;
      buildDTBs = false;
      isZen = false;
      isHardened = false;
      isLibre = false;
      inherit (final) stdenv;
      config = {
        isSet = _: true;
        isYes = _: true;
        isNo = _: false;
        isModule = _: false;
        isEnabled = _: true;
        isDisabled = _: false;
      };
      commonMakeFlags = [ ];
      randstructSeed = "";
      configfile = final.writeText "config" ''
        CONFIG_ARCH_MMAP_RND_BITS_MAX=32
        CONFIG_ARCH_MMAP_RND_COMPAT_BITS_MAX=16
      '';
      dev = final.emptyDirectory;
      modules = kernel;
      out = kernel;
      override = _: kernel;
    };
  self = {
    inherit kernel;
    inherit (final) stdenv;
    extend = _: self;
    kernelOlder = _: false;
    kernelAtLeast = _: true;
  };
in
self
