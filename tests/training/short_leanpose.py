"""The command `leanpose` with an lpn50 of one block a stage, which the fixture `short_lpn` gives to tests."""

from functools import partial

from leanpose.commands.cli import main
from leanpose.models import lpn

if __name__ == "__main__":
    setattr(lpn, "lpn50", partial(lpn.LPN, (1, 1, 1, 1)))  # noqa: B010
    raise SystemExit(main())
