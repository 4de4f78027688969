"""``python -m bayesclust.cli`` is the command ``bayesclust``."""

from bayesclust.cli.entry import main

main()
