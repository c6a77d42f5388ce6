# The logs; core dumps are in the table.
{
  config,
  lib,
  known,
}:
lib.optional
  (
    !lib.elem (config.services.journald.storage or "persistent") [
      "none"
      "volatile"
    ]
  )
  {
    directory = "/var/log";
    why = known.state."/var/log".what;
    class = "history";
    chosen = true;
  }
