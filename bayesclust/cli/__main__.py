"""``python -m bayesclust.cli``."""

from bayesclust.cli import main

if __name__ == "__main__":
    main()
