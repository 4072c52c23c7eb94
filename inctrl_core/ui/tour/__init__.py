"""The guided tour: five steps over the page itself."""
