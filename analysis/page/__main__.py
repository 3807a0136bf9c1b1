"""``python -m analysis.page``: write results/index.html from the records that are there."""

from analysis import page

if __name__ == "__main__":
    print(page.write())
