import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
}

// Java 8 and its API: a newer JDK's ByteBuffer, for one, has methods that old Androids lack.
java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.JVM_1_8
        freeCompilerArgs.add("-Xjdk-release=1.8")
    }
}

dependencies {
    testImplementation(libs.junit)
}

tasks.test {
    val fixtures = rootDir.resolveSibling("tests/fixtures")
    inputs.dir(fixtures)
    systemProperty("minialbert.fixtures", fixtures.path)
}
