"""After all other tests of the page."""

import pytest

pytestmark = pytest.mark.slow


def test_the_page_has_nothing_to_complain_of(pinned, newest):
    """Last: no error, no warning, no word in the console from this pack, and nothing of it on the page's own objects."""
    for page in (pinned, newest):
        assert page.ours() == []
        assert [text for text, _ in page.said if "checkState" in text] == [], "a call of ours that the host warns of"
        assert page.js("() => Object.keys(window).filter((k) => /dpm/i.test(k))") == []
