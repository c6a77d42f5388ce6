# Settings shared by all services of imp-mount.
{
  documentation = [ "man:imp-mount(8)" ];
  unitConfig.DefaultDependencies = false;
  conflicts = [ "shutdown.target" ];
  before = [ "shutdown.target" ];
  restartIfChanged = false;
  serviceConfig = {
    Type = "oneshot";
    # No setting that makes a mount namespace: the mounts would be hidden from all other units.
    CapabilityBoundingSet = "CAP_SYS_ADMIN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_CHOWN CAP_FOWNER CAP_FSETID CAP_SETFCAP CAP_LINUX_IMMUTABLE";
    NoNewPrivileges = true;
    RestrictAddressFamilies = "AF_UNIX";
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    SystemCallArchitectures = "native";
  };
}
