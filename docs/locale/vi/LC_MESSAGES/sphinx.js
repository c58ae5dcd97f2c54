// What the search page says. Why: Sphinx's own Vietnamese file has empty texts there, which show as nothing.
Documentation.addTranslations({
  locale: "vi",
  messages: {
    ", in ": ", trong ",
    "Hide Search Matches": "Ẩn kết quả được tô sáng",
    "Preparing search...": "Đang chuẩn bị tìm kiếm…",
    Search: "Tìm kiếm",
    "Search Results": "Kết quả tìm kiếm",
    "Search finished, found one page matching the search query.": ["Tìm thấy ${resultCount} trang phù hợp."],
    Searching: "Đang tìm",
    "Your search did not match any documents. Please make sure that all words are spelled correctly and that you've selected enough categories.":
      "Không có trang nào phù hợp. Hãy kiểm tra chính tả, hoặc thử ít từ hơn.",
  },
  plural_expr: "0",
});
