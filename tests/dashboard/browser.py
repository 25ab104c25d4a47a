"""The browser of the walk, in the words of its steps; keeps a picture of each."""

import os

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from cloud import until


class Browser:
    def __init__(self, work, pictures, home):
        self.home, self.pictures, self.taken = home, pictures, 0
        options = webdriver.ChromeOptions()
        options.binary_location = os.environ["CHROMIUM"]
        for argument in (
            "--headless=new",
            "--no-sandbox",  # a test may run as root, where Chromium has no sandbox
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--window-size=1400,1000",
            "--force-device-scale-factor=1",
            f"--user-data-dir={work}/chromium",
            # Nothing of the browser's own goes out to the network.
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--proxy-server=http://127.0.0.1:9",
            "--proxy-bypass-list=127.0.0.1",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, Service(os.environ["CHROMEDRIVER"], log_output=f"{work}/chromedriver.log"))
        self.driver.set_page_load_timeout(120)

    def close(self):
        self.driver.quit()

    def picture(self, name):
        self.taken += 1
        self.driver.save_screenshot(str(self.pictures / f"{self.taken:02}-{name}.png"))

    def go(self, path):
        self.driver.get(self.home + path)

    def text(self):
        return self.driver.find_element(By.TAG_NAME, "body").text

    def all(self, css):
        return [it for it in self.driver.find_elements(By.CSS_SELECTOR, css) if it.is_displayed()]

    def one(self, css):
        """The first that is to be seen, waited for."""
        return until(css, lambda: self.quietly(lambda: self.all(css)), 30)[0]

    @staticmethod
    def quietly(look):
        try:
            return look()
        except StaleElementReferenceException:
            return None

    def click(self, css):
        element = self.one(css)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def fill(self, **fields):
        """Fields of a form by their names; a flag is a checkbox."""
        for name, value in fields.items():
            field = self.one(f"[name='{name}']:not([type=hidden])") if not isinstance(value, bool) else None
            if isinstance(value, bool):
                box = until(name, lambda: self.driver.find_elements(By.CSS_SELECTOR, f"input[type=checkbox][name='{name}']"))[0]
                if box.is_selected() != value:
                    self.driver.execute_script("arguments[0].click()", box)
            elif field.tag_name == "select":
                # Horizon hides a themed select behind a menu of its own; its value is what is sent.
                Select(field).select_by_value(value)
            else:
                field.clear()
                field.send_keys(value)

    def choose(self, name, value):
        """A value of a select that Horizon's theme has replaced by a menu."""
        select = until(name, lambda: self.driver.find_elements(By.CSS_SELECTOR, f"select[name='{name}']"), 30)[0]
        known = [it.get_attribute("value") for it in select.find_elements(By.TAG_NAME, "option")]
        assert value in known, f"{name} offers {known}"
        self.driver.execute_script(
            "arguments[0].value = arguments[1]; $(arguments[0]).trigger('change')", select, value
        )

    SUBMIT = ".modal form input[type=submit], .modal form button[type=submit]"

    def submit(self, picture):
        """Sends the form of the open dialogue and waits for the page after it."""
        self.picture(picture)
        before = self.driver.find_element(By.TAG_NAME, "html")
        self.click(self.SUBMIT)
        self.gone(before)

    def gone(self, element):
        def stale():
            try:
                element.is_enabled()
                return False
            except StaleElementReferenceException:
                return True

        until("the next page", stale, 60)
        self.loaded()

    def loaded(self):
        until("the page is whole", lambda: self.driver.execute_script("return document.readyState") == "complete", 60)

    def rows(self, table):
        """The rows of a table: id of the thing and its cells' texts. A page that draws itself anew meanwhile is read again."""
        found = {}

        def read():
            try:
                found.clear()
                for row in self.driver.find_elements(By.CSS_SELECTOR, f"table#{table} tbody tr[data-object-id]"):
                    found[row.get_attribute("data-object-id")] = [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
                return True
            except StaleElementReferenceException:
                return False

        until(f"the table {table} stands still", read, 30)
        return found

    def act(self, row, action):
        """An action of a row; those but the first stand in a menu."""
        row = f"tr[data-object-id='{row}']"
        link = self.driver.find_element(By.CSS_SELECTOR, f"{row} a[id$='action_{action}']")
        if not link.is_displayed():
            self.click(f"{row} .dropdown-toggle")
        self.click(f"{row} a[id$='action_{action}']")

    def delete(self, row, table, picture):
        """Ticks a row, asks for its deletion, confirms."""
        self.driver.execute_script(
            "arguments[0].click()",
            self.driver.find_element(By.CSS_SELECTOR, f"tr[data-object-id='{row}'] input[type=checkbox]"),
        )
        self.click(f"#{table}__action_delete")
        self.one(".modal .btn-danger")
        self.picture(picture)
        before = self.driver.find_element(By.TAG_NAME, "html")
        self.click(".modal .btn-danger")
        self.gone(before)

    def said(self):
        """The messages on the page: class and text."""
        return [
            (it.get_attribute("class"), it.text.strip())
            for it in self.driver.find_elements(By.CSS_SELECTOR, ".messages .alert, #main_content .alert")
        ]

    def faults(self):
        """What the page itself complained of, in the browser's console."""
        return [it["message"] for it in self.driver.get_log("browser") if it["level"] == "SEVERE"]
