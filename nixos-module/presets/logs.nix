# The logs; what is left of programs that crashed is in the table.
{ config, lib, ... }:
lib.optional
  (
    !lib.elem (config.services.journald.storage or "persistent") [
      "none"
      "volatile"
    ]
  )
  {
    directory = "/var/log";
    why = "the journal, and the logs of services";
    class = "history";
    chosen = true;
  }
