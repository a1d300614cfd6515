"""Chromium without a window, for the tests of pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service


@contextmanager
def open_browser() -> Iterator[webdriver.Chrome]:
    """Yield a driver of Chromium.

    If Chromium is not installed the tests are skipped. With USRL_NEEDS_BROWSER set they fail instead.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    service = shutil.which("chromedriver")
    if not (browser and service):
        told = "Chromium and its driver are not installed; apt-get install chromium chromium-driver"
        pytest.fail(told) if os.environ.get("USRL_NEEDS_BROWSER") else pytest.skip(told)
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for switch in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "disable-gpu",
        "window-size=1280,900",
    ):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(service))
    driver.set_script_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()
